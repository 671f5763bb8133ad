from .addresses import address as address
from .addresses import is_remote as is_remote
from .cache import (
    cache_folder as cache_folder,
)
from .cache import (
    cached as cached,
)
from .cache import (
    give_home as give_home,
)
from .cache import (
    own_temporary_folder as own_temporary_folder,
)
from .folder import (
    Folder as Folder,
)
from .folder import (
    atomic_path as atomic_path,
)
from .folder import (
    atomic_write as atomic_write,
)
from .folder import (
    sha256 as sha256,
)
from .folder import (
    storage_errors as storage_errors,
)
from .one_writer import Say as Say
from .one_writer import Timings as Timings
from .one_writer import only_writer as only_writer
from .one_writer import read_mark as read_mark
from .places import (
    may_write as may_write,
)
from .places import (
    nearest_existing as nearest_existing,
)
from .places import (
    no_place as no_place,
)
from .retries import PATIENCE_S as PATIENCE_S
