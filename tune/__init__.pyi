from .running import Outcome as Outcome
from .running import run_sweep as run_sweep
from .sweep_file import Sweep as Sweep
from .sweep_file import SweepFile as SweepFile
from .sweep_file import load_sweep as load_sweep
