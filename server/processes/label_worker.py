"""The joiner: a process beside each scorer that joins labels and writes the journal.

Taking in a label takes as long as answering a prediction, and in one process predictions would wait for it.
The scorer checks labels and hands them over a socket, in MessagePack; where the joiner needs what only the
scorer has (predictions that are not written yet, the plan), it asks for it before it answers. It ends with
its scorer, and a dead one is started again when the next labels come.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe

import msgspec
import numpy as np

from online.core.config import Config
from online.core.errors import BusyError, JournalError
from online.core.home import Home
from online.labels.label_joiner import Joiner, Request, refusal
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog
from online.storage.records import Receipt

__all__ = ["JoinerProcess", "serve_scorer"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 300.0  # one that reads but says nothing for so long is given up: SQLite waits 30 for a lock
END_SECONDS = 10.0  # for what it is at when its scorer closes


class Take(msgspec.Struct, array_like=True):
    """From the scorer: labels to be taken in, and whether there are predictions that are not written yet."""

    requests: list[Request]
    learned: int | None
    unwritten: bool


class Told(msgspec.Struct, array_like=True):
    """From the scorer: what was asked for, or why it cannot be had."""

    expected: Sequence[float | None] = ()
    error: str | None = None


class Took(msgspec.Struct, tag=True, array_like=True):
    """From the joiner: all labels are durable."""

    receipts: list[Receipt]


class Refused(msgspec.Struct, tag=True, array_like=True):
    """From the joiner: no label was kept; with seconds where the client only came too early."""

    message: str
    retry_seconds: int | None = None


class Flush(msgspec.Struct, tag=True, array_like=True):
    """From the joiner: predictions are wanted that may not be written yet."""


class Expect(msgspec.Struct, tag=True, array_like=True):
    """From the joiner: what does the plan say of these encoded rows? Float64, row by row."""

    rows: int
    values: bytes


Answer = Took | Refused | Flush | Expect

encode = msgspec.msgpack.Encoder().encode
TAKE, TOLD, ANSWER = (msgspec.msgpack.Decoder(kind) for kind in (Take, Told, Answer))


class JoinerProcess:
    """A :class:`~online.labels.label_joiner.Joiner` in a process of its own, as a scorer sees it.

    Parameters
    ----------
    home
        The stream's.
    ledger
        Where predictions are queued until they are written.
    expect
        What the model says of encoded rows (n, columns).
    """

    def __init__(
        self,
        home: Home,
        ledger: PredictionLog,
        expect: Callable[[np.ndarray], Sequence[float | None]],
    ) -> None:
        self._home = home
        self._ledger = ledger
        self._expect = expect
        self._begin()

    def take_in(self, requests: Sequence[Request], learned: int | None) -> list[Receipt]:
        """As :class:`online.labels.label_joiner.Joins` says."""
        if self._process.poll() is not None:
            self._begin_again()
        try:
            answer = self._outcome(Take(list(requests), learned, self._ledger.waiting > 0))
        except Exception as exc:
            log.warning("the joiner is given up: %r", exc)
            self.close()  # whatever it is at
            raise JournalError(
                "the process that keeps labels ended meanwhile, and may have kept these or not: send them"
                " again, one with an id is learned once"
            ) from exc
        if isinstance(answer, Took):
            return answer.receipts
        if answer.retry_seconds is not None:
            raise BusyError(answer.message, answer.retry_seconds)
        raise JournalError(answer.message)

    def close(self) -> None:
        """Have it finish and end."""
        self._line.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.error("the joiner did not end in %g s and is killed", END_SECONDS)
            self._process.kill()
            self._process.wait()

    def _outcome(self, take: Take) -> Took | Refused:
        """Hand labels over, and tell what is asked meanwhile. Raises OSError, EOFError."""
        self._line.send_bytes(encode(take))
        while True:
            if not self._line.poll(ANSWER_SECONDS):
                raise TimeoutError(f"it has said nothing for {ANSWER_SECONDS:g} s")
            answer: Answer = ANSWER.decode(self._line.recv_bytes())
            if isinstance(answer, Took | Refused):
                return answer
            self._line.send_bytes(encode(self._told(answer)))

    def _begin(self) -> None:
        """Start the process, in a session of its own: see ``make_session_nice``."""
        self._line, far = Pipe()
        with contextlib.closing(far):
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                [
                    sys.executable, "-P", "-m", "millrace", "child", "joiner",
                    "--home", str(self._home.root), "--fd", str(far.fileno()),
                ],
                pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def _begin_again(self) -> None:
        log.warning("the joiner ended with code %s; it is started again", self._process.returncode)
        self.close()
        try:
            self._begin()
        except OSError as exc:
            raise refusal(f"the joiner cannot be started: {exc}") from exc

    def _told(self, asked: Flush | Expect) -> Told:
        try:
            if isinstance(asked, Expect):
                return Told(self._expect(np.frombuffer(asked.values).reshape(asked.rows, -1)))
            self._ledger.flush()
        except sqlite3.Error as exc:
            return Told(error=f"the ledger cannot be written: {exc}")
        except Exception as exc:
            log.exception("what the joiner asked for cannot be had")
            return Told(error=str(exc))
        return Told()


def serve_scorer(home: Home, config: Config, fd: int) -> None:
    """Take in labels from a scorer, at the other end of a socket, until it closes that."""
    line = Connection(fd)

    def ask(question: Flush | Expect) -> Told:
        try:
            line.send_bytes(encode(question))
            told: Told = TOLD.decode(line.recv_bytes())
        except (OSError, EOFError) as exc:
            raise JournalError("the scorer has gone") from exc
        if told.error is not None:
            raise JournalError(told.error)
        return told

    def flush() -> None:
        if take.unwritten:
            ask(Flush())

    def expect(values: np.ndarray) -> Sequence[float | None]:
        return ask(Expect(len(values), values.tobytes())).expected

    def open_journal() -> Journal:
        return Journal(home.journal, config.stream, LabelValidator(config.schema, config.quarantine))

    ledger = PredictionLog.of(home, config, expendable=False)  # the scorer would not know of a new one
    joiner = Joiner(
        config.schema, open_journal, ledger,
        max_waiting=config.learner.max_waiting, flush=flush, expect=expect,
    )  # fmt: skip
    with contextlib.closing(ledger), contextlib.closing(joiner), contextlib.suppress(EOFError, OSError):
        while True:
            take: Take = TAKE.decode(line.recv_bytes())
            line.send_bytes(encode(taken_in(joiner, take)))


def taken_in(joiner: Joiner, take: Take) -> Took | Refused:
    """What became of labels."""
    try:
        return Took(joiner.take_in(take.requests, take.learned))
    except BusyError as exc:
        return Refused(str(exc), exc.retry_seconds)
    except JournalError as exc:
        return Refused(str(exc))
