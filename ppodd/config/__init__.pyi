from .config import (
    CIRCUMSTANCES as CIRCUMSTANCES,
)
from .config import (
    CLASS_ORDERS as CLASS_ORDERS,
)
from .config import (
    DEFAULT_ROOT as DEFAULT_ROOT,
)
from .config import (
    LATER_STAGES as LATER_STAGES,
)
from .config import (
    RUNS as RUNS,
)
from .config import (
    SAVED_POSTERS as SAVED_POSTERS,
)
from .config import (
    DistillConfig as DistillConfig,
)
from .config import (
    EvaluationConfig as EvaluationConfig,
)
from .config import (
    EvaluationProtocol as EvaluationProtocol,
)
from .config import (
    absolute_paths as absolute_paths,
)
from .config import (
    build as build,
)
from .config import (
    check_evaluation as check_evaluation,
)
from .config import (
    check_geometry as check_geometry,
)
from .config import (
    known_poster_ipc as known_poster_ipc,
)
from .config import (
    protocols as protocols,
)
from .config import (
    said as said,
)
from .presets import PRESETS as PRESETS
from .presets import preset as preset
