"""What of the machine a run uses: device, threads, memory, and randomness that does not depend on any of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
