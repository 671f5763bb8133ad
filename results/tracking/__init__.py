"""MLflow as a view of the archive: its schema, its store, and the sync that brings it up to date."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
