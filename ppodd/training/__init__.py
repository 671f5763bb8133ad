"""Networks, the inner loop on patches, and the meta-gradient through it (RaT-BPTT, section 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
