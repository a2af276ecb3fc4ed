"""Which processes go first where there are fewer processors than work."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

__all__ = ["ROLE_NICENESS", "make_session_nice"]

log = logging.getLogger(__name__)

# Scoring goes first: it is what somebody waits for. A label's reply is waited for as well, but may take
# longer. Learning makes later predictions better; drift is told within minutes.
ROLE_NICENESS = {"label-worker": 5, "monitor": 5, "learner": 10, "watcher": 15}
AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES, AUTOGROUP_SECONDS = 10, 0.1


def make_session_nice(role: str) -> None:
    """Let the sessions of the roles that answer requests go before this one's.

    Linux may share a processor between sessions, whatever the niceness of their processes: niceness then
    counts only within a session (sched(7), "The autogroup feature"). The supervisor gives each role a session
    of its own, so each sets its session's niceness as well.
    """
    if (
        os.getsid(0) != os.getpid()
    ):  # run alone, it shares the session of a shell, which is not ours to change
        return
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(ROLE_NICENESS[role]))
        except BlockingIOError:  # the kernel takes ten such changes a second, of all users together
            time.sleep(AUTOGROUP_SECONDS)
        except OSError as exc:  # a kernel without autogroups: niceness counts between all processes then
            log.debug("sessions have no niceness here: %s", exc)
            return
        else:
            return
