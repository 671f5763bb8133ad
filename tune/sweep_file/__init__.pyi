from .loading import SWEEPS as SWEEPS
from .loading import find_sweep_file as find_sweep_file
from .loading import load_sweep as load_sweep
from .schema import Resources as Resources
from .schema import Scheduler as Scheduler
from .schema import SweepFile as SweepFile
from .sweep import Sweep as Sweep
