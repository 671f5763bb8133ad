"""Files on a local disk or any fsspec URL: whole or absent, never half-written, never silently wrong."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
