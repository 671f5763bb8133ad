from .answer import Answer as Answer
from .answer import answers as answers
from .answer import label as label
from .answer import main_protocol as main_protocol
from .answer import scope as scope
from .baselines import OF_FULL_DATA as OF_FULL_DATA
from .baselines import OVER_RANDOM as OVER_RANDOM
from .baselines import beside as beside
from .baselines import is_reference as is_reference
from .baselines import note as note
from .comparisons import BUDGETS as BUDGETS
from .comparisons import OVERALL as OVERALL
from .comparisons import Comparison as Comparison
from .comparisons import compare as compare
from .curves import (
    AXES as AXES,
)
from .curves import (
    BETWEEN as BETWEEN,
)
from .curves import (
    EVERY_STAGE as EVERY_STAGE,
)
from .curves import (
    MARKERS as MARKERS,
)
from .curves import (
    CurveLines as CurveLines,
)
from .curves import (
    level as level,
)
from .curves import (
    lines as lines,
)
from .curves import (
    texts as texts,
)
from .dd_ranking import robust_scores as robust_scores
from .protocol_text import facts as facts
from .protocol_text import one_or_range as one_or_range
from .published_numbers import (
    DATASET as DATASET,
)
from .published_numbers import (
    META_STEPS as META_STEPS,
)
from .published_numbers import (
    PODD_CURVE as PODD_CURVE,
)
from .published_numbers import (
    PODD_META_STEPS as PODD_META_STEPS,
)
from .published_numbers import (
    STEPS as STEPS,
)
from .published_numbers import (
    Published as Published,
)
from .published_numbers import (
    Row as Row,
)
from .published_numbers import (
    published as published,
)
from .published_numbers import (
    series as series,
)
from .selection import Chosen as Chosen
from .selection import choose as choose
from .statistics import ENOUGH_SEEDS as ENOUGH_SEEDS
from .statistics import few_seeds as few_seeds
from .tidy_frame import (
    KINDS as KINDS,
)
from .tidy_frame import (
    NOT_SETTINGS as NOT_SETTINGS,
)
from .tidy_frame import (
    chosen_steps as chosen_steps,
)
from .tidy_frame import (
    frame as frame,
)
from .tidy_frame import (
    frame_of as frame_of,
)
from .tidy_frame import (
    kinds as kinds,
)
from .tidy_frame import (
    last_stages as last_stages,
)
from .tidy_frame import (
    over_seeds as over_seeds,
)
from .tidy_frame import (
    remarks as remarks,
)
from .tidy_frame import (
    settings as settings,
)
from .tidy_frame import (
    trial_keys as trial_keys,
)
from .tidy_frame import (
    varied as varied,
)
from .tidy_frame import (
    where as where,
)
from .trial_summaries import (
    TrialSummary as TrialSummary,
)
from .trial_summaries import (
    posters as posters,
)
from .trial_summaries import (
    standing as standing,
)
from .trial_summaries import (
    trial_remarks as trial_remarks,
)
from .trial_summaries import (
    trials as trials,
)
