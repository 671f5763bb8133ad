from .archived_run import MeasureCandidate as MeasureCandidate
from .archived_run import distillation_steps as distillation_steps
from .archived_run import picture as picture
from .archived_run import run as run
from .cost import cpu_hours as cpu_hours
from .cost import distillation_flops as distillation_flops
from .cost import long_time as long_time
from .curriculum import mean_steps as mean_steps
from .imported import import_posters as import_posters
from .imported import load_posters as load_posters
from .initial import load_poster as load_poster
from .lockstep import Lockstep as Lockstep
from .meta_steps import DistillationSteps as DistillationSteps
from .out_of_memory import (
    OutOfMemory as OutOfMemory,
)
from .out_of_memory import (
    advice as advice,
)
from .out_of_memory import (
    halved as halved,
)
from .podd_files import paired as paired
from .stages import Distillation as Distillation
from .stages import MetaStepProgress as MetaStepProgress
