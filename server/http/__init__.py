"""The HTTP API of one scorer worker."""
