from .archive import (
    SCHEMA as SCHEMA,
)
from .archive import (
    Archive as Archive,
)
from .archive import (
    PosterFile as PosterFile,
)
from .archive import (
    TrialArchive as TrialArchive,
)
from .archive import (
    drawn_posters as drawn_posters,
)
from .archive import (
    failures_in as failures_in,
)
from .archive import (
    mode_blend as mode_blend,
)
from .archive import (
    stage_name as stage_name,
)
from .archive import (
    stages_in as stages_in,
)
from .archive import (
    storage_bytes as storage_bytes,
)
from .archive import (
    summary as summary,
)
from .archive import (
    tickets_in as tickets_in,
)
from .archive import (
    trials_wanted as trials_wanted,
)
