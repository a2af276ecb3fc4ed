"""The label worker: a process beside each scorer that joins labels and writes the journal.

Committing a label takes as long as answering a prediction, and in one process predictions would wait for it.
The scorer checks labels and hands them over a socket, in MessagePack: a frame is a list of
:class:`~online.labels.label_messages.CommitRequest`, and one back a list of replies, each with its request's
id; it is empty when all of a frame's requests are deferred, and one frame is under way at a time. An empty
frame to the process says that no more come. The process ends with its scorer, and a dead one is started
again when the next labels come.
"""

from __future__ import annotations

import contextlib
import logging
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe

import msgspec

from online.core.background import start_background_thread
from online.core.config import Config
from online.core.home import Home
from online.core.schema import Schema
from online.labels.label_joiner import LabelJoiner
from online.labels.label_messages import CommitRequest, CommitResponse, Rejected, SettleCommit, StoreReady
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog, fields_of

__all__ = ["LabelWorker", "serve_scorer"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 300.0  # one that reads but says nothing for so long is given up: SQLite waits 30 for a lock
SILENCE_CHECK_SECONDS = 1.0  # how often that is looked at
END_SECONDS = 10.0  # for what it is at when its scorer closes
LOST = (
    "the process that keeps labels ended meanwhile, and may have kept these or not: send them again, one with"
    " an id is learned once"
)


encode = msgspec.msgpack.Encoder().encode
REQUESTS = msgspec.msgpack.Decoder(list[CommitRequest])
RESPONSES = msgspec.msgpack.Decoder(list[CommitResponse])


class LabelWorker:
    """The label worker as its scorer sees it: a :class:`~online.labels.label_messages.LabelStore`.

    Parameters
    ----------
    home, schema
        The stream's.
    """

    def __init__(self, home: Home, schema: Schema) -> None:
        self._home = home
        self._fields = fields_of(schema)
        self._process = WorkerProcess(home)

    @property
    def pid(self) -> int:
        """The process that is at work, or was the last."""
        return self._process.pid

    def commit(self, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady) -> None:
        """Hand requests over.

        Parameters
        ----------
        requests
            The labels.
        settle
            Called once with each request's reply, from another thread.
        ready
            Called once the process has answered or deferred them: it would take the next.
        """
        frame = frame_of(requests, self._fields)
        if self._process.send(frame, requests, settle, ready):
            return
        code = self._process.end()
        log.warning("the label worker ended with code %s; it is started again", code)
        try:
            self._process = WorkerProcess(self._home)
            started = self._process.send(frame, requests, settle, ready)
            reason = "it ended at once"
        except OSError as exc:
            started, reason = False, str(exc)
        if not started:
            message = f"no label of this request was kept: the label worker cannot be started: {reason}"
            for request in requests:
                settle(Rejected(request.id, message))
            ready()

    def close(self) -> None:
        """Have it finish and end."""
        self._process.end()


class WorkerProcess:
    """One process and the socket to it; the replies are read by a thread of its own.

    Two threads, as with one the processes could wait for each other for ever: each with a long frame that
    the other does not read because it is sending one itself.

    Parameters
    ----------
    home
        The stream's.

    Raises
    ------
    OSError
        The process cannot be started.
    """

    def __init__(self, home: Home) -> None:
        self._socket, far = Pipe()
        with contextlib.closing(far):
            # in a session of its own: see make_session_nice
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                [
                    sys.executable, "-P", "-m", "millrace", "child", "label-worker",
                    "--home", str(home.root), "--fd", str(far.fileno()),
                ],
                pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._lock = threading.Lock()  # of what follows
        self._pending: dict[
            int, tuple[float, SettleCommit]
        ] = {}  # by request id: when it was sent, who is told
        self._lost = self._ending = False
        self._ready: StoreReady | None = None  # is told of the first reply to the last frame
        self._heard_at = time.monotonic()
        self._reader = start_background_thread(self._read_responses, "label worker")

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send(
        self, frame: bytes, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady
    ) -> bool:
        """Send requests.

        Parameters
        ----------
        frame
            The requests as they are sent.
        requests
            Those that are to be settled.
        settle
            Called with each reply, or, when the process ends before it, with a rejection.
        ready
            Called once they are answered or deferred, or the process has ended.

        Returns
        -------
        bool
            False, and nothing was sent and is called, when the process has ended.
        """
        with self._lock:
            if self._lost or self._process.poll() is not None:
                return False
            now = time.monotonic()
            self._pending.update((request.id, (now, settle)) for request in requests)
            self._ready = ready
        with contextlib.suppress(OSError):  # it has just ended: the reader sees that, and rejects them
            self._socket.send_bytes(frame)
        return True

    def end(self) -> int:
        """Have the process finish, at the latest kill it; its exit code. Not while another thread sends."""
        with self._lock:
            self._ending = True
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.send_bytes(encode([]))
        code = self._wait_or_kill()
        self._reader.join()
        self._socket.close()
        return code

    def _wait_or_kill(self) -> int:
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.error("the label worker did not end in %g s and is killed", END_SECONDS)
            self._process.kill()
            return self._process.wait()

    def _read_responses(self) -> None:
        """The reader thread: settle requests as they are answered, until the process ends."""
        try:
            readable = select.poll()  # Connection.poll makes a selector at every call, for each reply
            readable.register(self._socket.fileno(), select.POLLIN)
            while True:
                while not readable.poll(1000 * SILENCE_CHECK_SECONDS):
                    self._check_silence()
                responses: list[CommitResponse] = RESPONSES.decode(self._socket.recv_bytes())
                self._heard_at = time.monotonic()
                with self._lock:
                    settled = [self._pending.pop(response.request_id)[1] for response in responses]
                self._tell_ready()  # also by a reply to what was deferred: the next frame is a little early
                for settle, response in zip(settled, responses, strict=True):
                    settle(response)
        except EOFError:
            self._give_up("it has ended")
        except Exception as exc:  # noqa: BLE001 - whatever it is, clients wait for an answer
            self._give_up(repr(exc))

    def _check_silence(self) -> None:
        """Raise TimeoutError when a request has waited too long for any reply."""
        with self._lock:
            oldest = min((sent_at for sent_at, _ in self._pending.values()), default=None)
        if oldest is not None and time.monotonic() - max(oldest, self._heard_at) > ANSWER_SECONDS:
            raise TimeoutError(f"it has said nothing for {ANSWER_SECONDS:g} s")

    def _give_up(self, reason: str) -> None:
        """Reject what was not answered, once the process can keep nothing more."""
        with self._lock:
            self._lost = True
            pending, self._pending = self._pending, {}
            quiet = self._ending and not pending
        if not quiet:
            log.warning("the label worker is given up: %s", reason)
            self._process.kill()  # SQLite keeps a transaction whole or not at all
            self._process.wait()
        for request_id, (_, settle) in pending.items():
            settle(Rejected(request_id, LOST))
        self._tell_ready()

    def _tell_ready(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None:
            ready()


def frame_of(requests: Sequence[CommitRequest], fields: frozenset[str]) -> bytes:
    """Requests as they are sent; of predictions that are sent along no more than ``fields`` are needed."""
    try:
        return encode(requests)
    except OverflowError:  # a client's integer, in a row as it came, that MessagePack does not have
        return encode(
            [
                msgspec.structs.replace(request, served=[part.cleaned(fields) for part in request.served])
                for request in requests
            ]
        )


def serve_scorer(home: Home, config: Config, fd: int) -> None:
    """Commit labels for a scorer until it closes.

    Parameters
    ----------
    home, config
        The stream's.
    fd
        This end of the socket to the scorer.
    """

    def open_journal() -> Journal:
        return Journal(home.journal, config.stream, LabelValidator(config.schema, config.quarantine))

    socket = Connection(fd)
    ledger = PredictionLog.of(home, config, expendable=False)  # the scorer would not know of a new one
    joiner = LabelJoiner(config.schema, open_journal, ledger, max_waiting=config.learner.max_waiting)
    # a scorer that has gone waits for nothing: what was deferred is not answered, and will be sent again
    with contextlib.closing(ledger), contextlib.closing(joiner), contextlib.suppress(EOFError, OSError):
        last = False
        while not last:
            requests, last = receive(socket, joiner.pause)
            responses = joiner.process(requests, last=last)
            if responses or requests:  # an empty reply says that all are deferred
                socket.send_bytes(encode(responses))


def receive(socket: Connection, seconds: float | None) -> tuple[list[CommitRequest], bool]:
    """The next frame, if it comes within a time.

    Parameters
    ----------
    socket
        To the scorer.
    seconds
        How long to wait; None for as long as it takes.

    Returns
    -------
    tuple
        The requests, none when the time is over, and whether they are the last.

    Raises
    ------
    EOFError, OSError
        The scorer has gone.
    """
    if seconds is not None and not socket.poll(seconds):
        return [], False
    requests: list[CommitRequest] = REQUESTS.decode(socket.recv_bytes())
    return requests, not requests
