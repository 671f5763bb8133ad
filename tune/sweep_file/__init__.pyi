from .schema import (
    SWEEPS as SWEEPS,
)
from .schema import (
    Resources as Resources,
)
from .schema import (
    Scheduler as Scheduler,
)
from .schema import (
    Sweep as Sweep,
)
from .schema import (
    SweepFile as SweepFile,
)
from .schema import (
    find_sweep_file as find_sweep_file,
)
from .schema import (
    load_sweep as load_sweep,
)
