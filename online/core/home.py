"""Where everything of one stream lives: a folder with ``data/``, ``models/`` and ``millrace.toml``."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from pathlib import Path
from typing import TextIO

from online.core.errors import LockError

__all__ = ["Home", "lock", "write_atomically"]


@dataclasses.dataclass(frozen=True)
class Home:
    """The paths of one home. Nothing is created until :meth:`create`."""

    root: Path

    @property
    def config(self) -> Path:
        """The settings and schema, ``millrace.toml``."""
        return self.root / "millrace.toml"

    @property
    def data(self) -> Path:
        """CSV files, journal, ledger and history."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """Snapshots and the plan now served."""
        return self.root / "models"

    @property
    def journal(self) -> Path:
        """The journal's database."""
        return self.data / "journal.db"

    @property
    def ledger(self) -> Path:
        """The ledger's database."""
        return self.data / "ledger.db"

    @property
    def history(self) -> Path:
        """What learning saw: outcomes, alarms and the learner's status."""
        return self.data / "history.db"

    @property
    def drift_log(self) -> Path:
        """Drifted inputs as they were served."""
        return self.data / "drift_log.csv"

    @property
    def flag_limits(self) -> Path:
        """The limits that scorers mark drifted inputs by."""
        return self.data / "marks.json"

    @property
    def plan(self) -> Path:
        """The scoring plan now served."""
        return self.models / "plan.safetensors"

    @property
    def training_rows(self) -> Path:
        """The rows of the bootstrap as a batch expert learns them."""
        return self.data / "training_rows.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the one learner of this home."""
        return self.data / "learner.lock"

    @property
    def server(self) -> Path:
        """Addresses of the server now running here, for scripts."""
        return self.data / "server.json"

    def create(self) -> Home:
        """Make the folders and return self."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.models.mkdir(parents=True, exist_ok=True)
        return self


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or all of the new.

    Parameters
    ----------
    path
        The file; its folder has to be there.
    content
        All of it.
    """
    # Beside the file, as a rename within one file system is atomic; named for this process, as two may write.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a crash may leave the new name with none of its bytes
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself is durable once the folder is
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lock(home: Home) -> TextIO:
    """Take the home's learner lock, which is held until the file returned is closed.

    Raises
    ------
    LockError
        Another process has it.
    """
    # flock and not a file that is made and removed: the kernel gives it back however the process ends
    file = home.create().lock.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.close()
        raise LockError(
            f"a learner is already at work in {home.root}: stop it, or go through its server"
        ) from exc
    return file
