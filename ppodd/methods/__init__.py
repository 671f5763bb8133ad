"""What a sweep compares: P-PoDD, PoDD, and the baselines that a distillation must beat, each a method by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
