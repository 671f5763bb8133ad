from .analysis import answers as answers
from .analysis import compare as compare
from .analysis import frame as frame
from .reporting import curve as curve
from .reporting import report as report
from .reporting import table as table
from .tracking import default_tracking_uri as default_tracking_uri
from .tracking import sync as sync
