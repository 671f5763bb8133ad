"""Tables, curves and reports for people, made of what the analysis found."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
