from .copies import copied as copied
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
    Accuracy as Accuracy,
)
from .records import (
    CandidateRecord as CandidateRecord,
)
from .records import (
    Data as Data,
)
from .records import (
    DataDigest as DataDigest,
)
from .records import (
    DataRecord as DataRecord,
)
from .records import (
    Digests as Digests,
)
from .records import (
    EvaluationFailureRecord as EvaluationFailureRecord,
)
from .records import (
    EvaluationRecord as EvaluationRecord,
)
from .records import (
    FailureRecord as FailureRecord,
)
from .records import (
    HoursRecord as HoursRecord,
)
from .records import (
    ImportedPoster as ImportedPoster,
)
from .records import (
    LossSoFar as LossSoFar,
)
from .records import (
    MetaLoss as MetaLoss,
)
from .records import (
    PixelBudget as PixelBudget,
)
from .records import (
    ProgressRecord as ProgressRecord,
)
from .records import (
    ResumePosition as ResumePosition,
)
from .records import (
    SearchRecord as SearchRecord,
)
from .records import (
    StageAccuracy as StageAccuracy,
)
from .records import (
    StageBudget as StageBudget,
)
from .records import (
    StageRecord as StageRecord,
)
from .records import (
    StartRecord as StartRecord,
)
from .records import (
    StopRecord as StopRecord,
)
from .records import (
    SweepDataRecord as SweepDataRecord,
)
from .records import (
    SweepRecord as SweepRecord,
)
from .records import (
    SweepTrial as SweepTrial,
)
from .sweeps import (
    DRIVER as DRIVER,
)
from .sweeps import (
    Archive as Archive,
)
from .targets import (
    stages_at as stages_at,
)
from .targets import (
    trial_at as trial_at,
)
from .targets import (
    trial_of as trial_of,
)
from .targets import (
    with_own_folder as with_own_folder,
)
from .tickets import (
    drawn_posters as drawn_posters,
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
    Status as Status,
)
from .trial_state import (
    TrialState as TrialState,
)
from .trial_state import (
    stage_name as stage_name,
)
from .verification import (
    Damage as Damage,
)
from .verification import (
    damage as damage,
)
from .verification import (
    mended as mended,
)
from .verification import (
    repair as repair,
)
