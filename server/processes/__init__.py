"""The processes of a server: supervisor, roles, label worker, drift watcher."""
