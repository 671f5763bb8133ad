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
    cache_folder as cache_folder,
)
from .folder import (
    sha256 as sha256,
)
from .retries import PATIENCE_S as PATIENCE_S
