"""What tests and benchmarks share: a real server, rows, streams, a browser."""
