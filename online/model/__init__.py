"""Estimators, how their outputs are combined, and the intervals around the result."""
