"""Multi-stage distillation: meta-step, curriculum, stages, and how a run lives in its archive folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
