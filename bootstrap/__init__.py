"""From a CSV or a data endpoint to a schema and model_v1."""
