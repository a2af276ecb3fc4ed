"""The live page, in its own process, reading over HTTP."""
