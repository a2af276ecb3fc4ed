"""Processes killed, files spoiled, labels poisoned; developers run them."""
