"""Kernels that score rows from a plan's arrays, compiled ahead of the first request."""
