from .poster_file import (
    PosterFile as PosterFile,
)
from .poster_file import (
    storage_bytes as storage_bytes,
)
from .records import (
    SCHEMA as SCHEMA,
)
from .records import (
    summary as summary,
)
from .sweeps import (
    Archive as Archive,
)
from .sweeps import (
    trials_wanted as trials_wanted,
)
from .tickets import (
    drawn_posters as drawn_posters,
)
from .tickets import (
    mode_blend as mode_blend,
)
from .tickets import (
    ticket as ticket,
)
from .trial_archive import (
    EVALUATOR as EVALUATOR,
)
from .trial_archive import (
    WRITER as WRITER,
)
from .trial_archive import (
    TrialArchive as TrialArchive,
)
from .trial_state import (
    failures_in as failures_in,
)
from .trial_state import (
    stage_name as stage_name,
)
from .trial_state import (
    stages_in as stages_in,
)
from .trial_state import (
    tickets_in as tickets_in,
)
