"""The River pipeline: encoder, imputer, and a pool of experts, which owns the scaler."""

from __future__ import annotations

from river import base, compose

from online.core.config import ExpertsConfig, ModelConfig
from online.core.errors import ConfigError
from online.core.schema import Schema
from online.features.row_encoder import RowEncoder
from online.forest.regressor import AdaptiveForestRegressor
from online.model.experts.boosted import BoostedTrees
from online.model.experts.column_value import ColumnValue
from online.model.experts.nlms import NormalizedLMS
from online.model.experts.rls import RecursiveLeastSquares
from online.model.imputing import FadedImputer
from online.model.micro_batch import View
from online.model.pool import ExpertPool
from online.model.scaling import FadedScaler

__all__ = ["BOOSTED", "ENCODER", "IMPUTER", "POOL", "RECENT", "build_pipeline"]

BOOSTED, RECENT = "boosted", "boosted_recent"  # trained by the bootstrap; and anew with the labels since
ENCODER, IMPUTER, POOL = "encoder", "imputer", "pool"
STANDARD = ExpertsConfig()
IMPUTE_FADING = 0.01  # a missing value is taken to be the mean of about the last hundred


def build_pipeline(schema: Schema, model: ModelConfig, experts: ExpertsConfig = STANDARD) -> compose.Pipeline:
    """An untaught pipeline for a stream: raw rows in, target units out.

    Raises
    ------
    ConfigError
        All experts are switched off.
    """
    encoder = RowEncoder(schema.used, schema.context)
    columns = encoder.columns
    imputer = FadedImputer(columns, IMPUTE_FADING)
    context = columns[len(columns) - len(schema.context) :]
    naive = [c for c, spec in zip(context, schema.context, strict=True) if spec.kind != "age"]
    return compose.Pipeline((ENCODER, encoder), (IMPUTER, imputer), (POOL, build_pool(model, experts, naive)))


def build_pool(model: ModelConfig, experts: ExpertsConfig, naive: list[str]) -> ExpertPool:
    """The experts that are switched on; ``naive`` are the columns in target units."""
    found: dict[str, base.Regressor] = {}
    raw: list[str] = []
    if experts.batch:
        found |= {BOOSTED: BoostedTrees(), RECENT: BoostedTrees()}
        raw += [BOOSTED, RECENT]
    found |= forests(model, experts)
    if experts.trees:
        found |= trees(model, experts)
    if experts.naive:
        found |= {column: ColumnValue(column) for column in naive}
        raw += naive
    found |= lines(experts)
    if not found:
        raise ConfigError("experts: all are switched off; switch one on")
    scaler = FadedScaler(max(2, model.scaler_memory)) if model.scaler_memory else None
    return ExpertPool(found, dict.fromkeys(raw, View(scaled=False)), scaler)


def forests(model: ModelConfig, experts: ExpertsConfig) -> dict[str, base.Regressor]:
    """The adaptive forests."""
    found: dict[str, base.Regressor] = {}
    if experts.forest:
        found["forest"] = AdaptiveForestRegressor(
            n_models=model.n_models, delay=model.bootstrap_delay, seed=model.seed
        )
    if experts.fast_forest:
        found["forest_fast"] = AdaptiveForestRegressor(
            n_models=max(2, model.n_models // 2), grace=50.0, delta=1e-3, max_depth=8, slow_step=0.05,
            fast_step=0.2, delay=model.bootstrap_delay, seed=model.seed + 1,
        )  # fmt: skip
    return found


def trees(model: ModelConfig, experts: ExpertsConfig) -> dict[str, base.Regressor]:
    """River's adaptive trees: a bagging of them, and one alone."""
    from online.model.experts.river.adaptive_tree import adaptive_tree
    from online.model.experts.river.adwin_bagging import (
        ADWINBaggingRegressor,  # with them comes half of SciPy
    )

    bagged = ADWINBaggingRegressor(adaptive_tree(model.seed), n_models=experts.trees_models, seed=model.seed)
    return {"bagging": bagged, "tree": adaptive_tree(model.seed, watched=False)}


def lines(experts: ExpertsConfig) -> dict[str, base.Regressor]:
    """The linear experts."""
    found: dict[str, base.Regressor] = {}
    if experts.least_squares:
        for name, share in (("slow", 10.0), ("middle", 1.0), ("fast", 1 / 3)):
            keep = 1.0 - 1.0 / (experts.least_squares_rows * share)
            found[f"squares_{name}"] = RecursiveLeastSquares(forgetting=keep)
    if experts.linear:
        found["linear"] = NormalizedLMS(step=experts.linear_step)
    return found
