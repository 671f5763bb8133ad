from .layouts import layout_of as layout_of
from .layouts import trained_on as trained_on
from .start import start_poster as start_poster
