from .accuracy import evaluate as evaluate
from .accuracy import pixel_budget as pixel_budget
from .accuracy import stack as stack
from .accuracy import versions as versions
from .archived_stages import (
    evaluate_archived as evaluate_archived,
)
from .archived_stages import (
    measure_candidate as measure_candidate,
)
from .archived_trials import (
    evaluate_trials as evaluate_trials,
)
from .data import archived_config as archived_config
from .data import check_data as check_data
from .data import data_of as data_of
from .data import keep_data as keep_data
from .export import FORMATS as FORMATS
from .export import TrainingSet as TrainingSet
from .export import training_set as training_set
from .plug_ins import try_protocol as try_protocol
from .plug_ins import try_works as try_works
from .work_items import Work as Work
from .work_items import works as works
