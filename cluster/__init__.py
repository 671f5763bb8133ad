"""Evaluators on Ray: detached actors that judge archived stages, and the coordinator that hands out the work."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
