"""The experts of the option ``experts.trees``: a bagging of River's adaptive trees, and one alone."""

from __future__ import annotations

from river import base

from online.model.experts.river.adaptive_tree import adaptive_tree
from online.model.experts.river.adwin_bagging import ADWINBaggingRegressor

__all__ = ["river_experts"]


def river_experts(seed: int, n_models: int) -> dict[str, base.Regressor]:
    """The experts, untaught.

    Parameters
    ----------
    seed
        Of all trees.
    n_models
        How many members the bagging has, at least two.

    Returns
    -------
    dict
        The regressors by name.
    """
    bagging = ADWINBaggingRegressor(adaptive_tree(seed), n_models=n_models, seed=seed)
    return {"bagging": bagging, "tree": adaptive_tree(seed, watched=False)}
