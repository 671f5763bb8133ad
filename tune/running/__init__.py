"""Running a sweep: Ray Tune over its trials, evaluators beside them, the archive as the record of both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
