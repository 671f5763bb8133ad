"""Sweeps as Ray jobs on a cluster that this machine need not be part of."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
