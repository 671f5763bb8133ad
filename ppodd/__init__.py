"""Progressive Poster Dataset Distillation: the method as a library (no Ray, no MLflow, no pandas)."""

__version__ = "0.1.0"
