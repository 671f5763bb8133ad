from .environment import prepare as prepare
from .environment import take_shipped as take_shipped
