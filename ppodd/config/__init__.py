"""What a distillation and an evaluation are told to do, and named settings of both. Light: needs no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
