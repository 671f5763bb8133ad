from .layouts import layout_of as layout_of
from .layouts import trained_on as trained_on
from .names import METHODS as METHODS
from .names import P_PODD as P_PODD
from .names import Method as Method
from .start import start_poster as start_poster
