"""MLflow as a view of the archive, and tables, comparisons and curves read out of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
