from .api import Evaluations as Evaluations
from .api import Run as Run
from .api import ShownImage as ShownImage
from .api import Stage as Stage
from .api import SweepResult as SweepResult
from .api import compare as compare
from .api import curve as curve
from .api import distill as distill
from .api import evaluate as evaluate
from .api import render as render
from .api import results as results
from .api import sweep as sweep

__version__: str
