"""What is checked before a server starts: what could only fail again and again is refused."""

from __future__ import annotations

import logging

from online.core.config import Config
from online.core.errors import PlanError
from online.core.home import Home, lock
from online.core.schema import check_same
from online.scoring.plan_file import read_schema
from online.storage.database import refuse_newer_files
from online.storage.journal import Journal
from server.processes.supervisor import Role

__all__ = ["check_home", "check_plan"]

log = logging.getLogger(__name__)


def check_home(home: Home, config: Config, role: Role | None) -> None:
    """Refuse to start processes that could only fail again and again: the error says what to do.

    Parameters
    ----------
    home, config
        What is to be served.
    role
        This role alone; None for all of them.

    Raises
    ------
    LockError
        Another learner is at work in this home.
    PlanError
        There is no model.
    SchemaError
        millrace.toml has not the schema of the plan that is served.
    JournalError
        The journal cannot be opened.
    """
    refuse_newer_files(home)
    if role in (None, "learner"):
        lock(home).close()
    if role in (None, "scorer"):
        if not (home.plan.exists() or any(home.models.glob("model_v*.pkl"))):
            raise PlanError(f"{home.plan} is missing: run 'millrace bootstrap' first")
        check_plan(home, config)
        Journal(home.journal, config.stream).close()


def check_plan(home: Home, config: Config) -> None:
    """Refuse settings whose schema is not the plan's.

    Parameters
    ----------
    home, config
        What is to be served.

    Raises
    ------
    SchemaError
        It is another one.
    """
    try:
        schema = read_schema(home.plan)
    except PlanError as exc:  # scorers go on from the one before, and the learner writes it anew
        log.info("%s", exc)
        return
    check_same(schema, config.schema, "the model now served")
