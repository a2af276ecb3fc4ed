"""What is looked at before a server starts: what could only fail again and again is refused."""

from __future__ import annotations

from online.core.config import Config
from online.core.errors import PlanError
from online.core.home import Home, lock
from online.core.schema import check_same
from online.scoring.plan_file import read_schema
from online.storage.database import refuse_newer_files
from online.storage.journal import Journal
from server.processes.supervisor import Role

__all__ = ["check_home", "check_plan"]


def check_home(home: Home, config: Config, role: Role | None) -> None:
    """Refuse to start what could only fail again and again: the error says what to do."""
    refuse_newer_files(home)
    if role in (None, "learner"):
        lock(home).close()
    if role in (None, "scorer"):
        if not (home.plan.exists() or any(home.models.glob("model_v*.pkl"))):
            raise PlanError(f"{home.plan} is missing: run 'millrace bootstrap' first")
        check_plan(home, config)
        Journal(home.journal, config.stream).close()


def check_plan(home: Home, config: Config) -> None:
    """Refuse settings whose schema is not the plan's. A torn plan is the learner's to write anew."""
    try:
        schema = read_schema(home.plan)
    except PlanError:
        return
    check_same(schema, config.schema, "the model now served")
