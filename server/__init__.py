"""One server: the HTTP API, its processes, what is observed of them, the monitor, and the commands."""
