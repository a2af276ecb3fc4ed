"""The HTTP server: routes, problems, metrics, and the supervisor of its processes."""
