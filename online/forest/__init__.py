"""An adaptive forest for regression in flat arrays, learned and scored by compiled kernels."""
