"""What ppodd's commands do, as functions and objects. It knows all packages, and imports each when it is needed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
