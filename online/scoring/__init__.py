"""The compiled, read-only copy of a model that serves predictions."""
