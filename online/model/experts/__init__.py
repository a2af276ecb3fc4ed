"""Estimators of the pool, one a file, each with River's API."""
