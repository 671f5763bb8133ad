"""Templates of clusters that sweeps run on, with a lab's own numbers filled in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
