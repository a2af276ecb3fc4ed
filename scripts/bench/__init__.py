"""Benchmarks beside peers; developers run them."""
