"""MLflow as a view of the archive, and tables, comparisons and curves read out of it."""
