"""Which evaluations are open, who works on them, how many workers there should be. No Ray in here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
