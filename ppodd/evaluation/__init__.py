"""Evaluation: fresh networks trained on archived posters, accuracy at each budget; posters as training sets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
