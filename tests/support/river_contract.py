"""The settings that an estimator names for River's checks, and the checks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from river import checks

__all__ = ["checked_settings", "contract_cases"]


def checked_settings(estimator: Any) -> list[dict[str, Any]]:
    """The settings an estimator is to be checked with."""
    return list(estimator._unit_test_params())  # noqa: SLF001 - the name that River's own checks call


def contract_cases(*estimators: Any) -> Iterator[Any]:
    """River's checks of estimators, each as a test's parameters: a model and a check.

    Parameters
    ----------
    estimators
        The classes.

    Yields
    ------
    ParameterSet
        A model of one of its settings, and a check to call with it.
    """
    for estimator in estimators:
        for n, settings in enumerate(checked_settings(estimator)):
            model = estimator(**settings)
            for i, check in enumerate(checks.yield_checks(model)):
                yield pytest.param(model, check, id=f"{estimator.__name__}-{n}-{check.__name__}-{i}")
