from . import schema as schema
from .reading import StoredRun as StoredRun
from .reading import local_artifacts as local_artifacts
from .reading import read as read
from .store import (
    Store as Store,
)
from .store import (
    absolute as absolute,
)
from .store import (
    all_runs as all_runs,
)
from .store import (
    check_place as check_place,
)
from .store import (
    default_tracking_uri as default_tracking_uri,
)
from .store import (
    exists as exists,
)
from .store import (
    open_store as open_store,
)
from .store import (
    require_store as require_store,
)
from .store_file import set_aside as set_aside
from .store_file import sqlite_path as sqlite_path
from .syncing import Syncer as Syncer
from .syncing import sync as sync
from .views import Link as Link
from .views import links_of as links_of
