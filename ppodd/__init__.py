"""Progressive Poster Dataset Distillation: the method as a library (no Ray, no MLflow, no pandas).

`ppodd.distill`, `evaluate`, `render`, `sweep`, `results`, `compare` and `curve` do what the commands do, with docs in
docs/python.md; what they need is imported when they are called.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
