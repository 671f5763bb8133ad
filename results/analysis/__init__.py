"""What a store says: one tidy frame of everything measured, and what can be concluded from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
