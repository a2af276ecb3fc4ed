"""Notices that another process has replaced a file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from online.core.background import start_background_thread

__all__ = ["FileWatcher"]

log = logging.getLogger(__name__)


class FileWatcher:
    """Calls a function for each new version of a file, in a thread that looks every so often.

    The thread starts with :meth:`start` and ends with :meth:`close`; :meth:`refresh` looks at once. A file
    that is not there is waited for.

    Parameters
    ----------
    path
        The file. Its writer replaces it as a whole (:func:`online.core.home.write_atomically`).
    on_change
        Called without arguments whenever the file has changed. What it raises is logged, and the file is
        looked at again only once it has changed again.
    poll_seconds
        How often to look.
    name
        The thread's name.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "limits.json"
    >>> watcher = FileWatcher(path, lambda: print(path.read_text()), 0.5, "limits")
    >>> watcher.refresh()
    >>> _ = path.write_text("one")
    >>> watcher.refresh()
    one
    >>> watcher.refresh()
    """

    def __init__(self, path: Path, on_change: Callable[[], None], poll_seconds: float, name: str) -> None:
        self._path = path
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._name = name
        self._version: tuple[int, ...] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def refresh(self) -> None:
        """Look now; what ``on_change`` raises is raised."""
        try:
            status = self._path.stat()
        except OSError:  # not written yet, or its folder is gone: there is no new version
            return
        # A file replaced within the clock's grain has another inode; one written in place, mostly another
        # size. It is read after it was looked at: a version that comes between is read twice, never missed.
        version = (status.st_mtime_ns, status.st_ino, status.st_size)
        if version != self._version:
            self._version = version
            self._on_change()

    def start(self) -> None:
        """Start the thread that looks."""
        self._thread = start_background_thread(self._poll, self._name)

    def close(self) -> None:
        """Stop looking, and wait for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.refresh()
            except Exception:  # a thread that ends would leave the reader with an old version for good
                log.exception("%s has changed and cannot be taken", self._path)
