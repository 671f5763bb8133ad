"""Posters: geometry, patches, labels, class order, blends of several, and pictures of them (PoDD, section 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
