"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)
from litestar.types import ExceptionHandlersMap

from online.core.errors import BusyError, InputError, JournalError, PlanError, SnapshotError
from server.http.bodies import TooManyRows, WrongMediaType

__all__ = ["exception_handlers", "problem_plugin"]

log = logging.getLogger(__name__)

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid row",
    429: "Too many labels waiting",
    500: "Internal error",
    503: "Not available now",
}


def problem(status: int, detail: str, **extra: Any) -> ProblemDetailsException:
    """A problem of a status, with a detail for people."""
    return ProblemDetailsException(
        detail=detail,
        status_code=status,
        type_="about:blank",
        title=TITLES.get(status, "Error"),
        extra={name: value for name, value in extra.items() if value is not None},
    )


def input_problem(exc: InputError) -> ProblemDetailsException:
    """A refused request: malformed 400, too large 413, unknown type 415, a wrong field 422."""
    if isinstance(exc, TooManyRows):
        return problem(413, str(exc))
    if isinstance(exc, WrongMediaType):
        return problem(415, str(exc))
    status = 422 if exc.field is not None else 400
    return problem(status, str(exc), field=exc.field, index=exc.index)


def http_problem(exc: HTTPException) -> ProblemDetailsException:
    """Litestar's own errors in the same shape; a parameter at fault is named."""
    faults = [fault for fault in exc.extra if "key" in fault] if isinstance(exc.extra, list) else []
    detail, field = exc.detail, None
    if faults:
        field = str(faults[0]["key"])
        detail = "; ".join(f"{fault['key']}: {fault.get('message', 'wrong')}" for fault in faults)
    found = problem(exc.status_code, detail or TITLES.get(exc.status_code, "Error"), field=field)
    found.headers = exc.headers
    return found


def unavailable(exc: Exception) -> ProblemDetailsException:
    """Something the answer needs is not there now."""
    return problem(503, str(exc))


def busy(exc: BusyError) -> ProblemDetailsException:
    """Too many labels wait; says when to come again."""
    found = problem(429, str(exc))
    found.headers = {"Retry-After": str(exc.retry_seconds)}
    return found


def problem_plugin() -> ProblemDetailsPlugin:
    """Turns Millrace's and Litestar's errors into problem details."""
    return ProblemDetailsPlugin(
        ProblemDetailsConfig(
            exception_to_problem_detail_map={
                InputError: input_problem,
                TooManyRows: input_problem,
                WrongMediaType: input_problem,
                HTTPException: http_problem,
                BusyError: busy,
                PlanError: unavailable,
                JournalError: unavailable,
                sqlite3.Error: unavailable,
                SnapshotError: lambda exc: problem(404, str(exc)),
            }
        )
    )


def internal_error(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    """Anything unforeseen: logged with its trace, told without it."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    return problem(500, "an error that Millrace did not foresee; its log has the details").to_response(
        request
    )


def exception_handlers() -> ExceptionHandlersMap:
    """The handler of last resort."""
    return {500: internal_error}
