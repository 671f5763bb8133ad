"""The archive: every stage of every trial as plain files, the single source of truth. Light: needs no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
