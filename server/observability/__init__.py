"""Metrics, logs and the state report."""
