"""Labelled image sets as whitened tensors on a device. `sources` is light; reading needs numpy, the rest torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
