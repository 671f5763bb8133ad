from .filling import KINDS as KINDS
from .filling import describe as describe
from .filling import filled_in as filled_in
from .filling import render as render
