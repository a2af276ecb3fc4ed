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
from online.model.micro_batch import FeatureView
from online.model.pool import ExpertPool
from online.model.scaling import FadedScaler

__all__ = ["BOOSTED", "BOOSTED_RECENT", "ENCODER", "IMPUTER", "POOL", "build_pipeline"]

# the batch expert as the bootstrap trained it, and as it was last trained with the labels since
BOOSTED, BOOSTED_RECENT = "boosted", "boosted_recent"
ENCODER, IMPUTER, POOL = "encoder", "imputer", "pool"  # the steps of the pipeline
DEFAULT_EXPERTS = ExpertsConfig()
IMPUTE_FADING = 0.01  # a missing value is taken to be the mean of about the last hundred
SQUARES_MEMORY = {"slow": 10.0, "middle": 1.0, "fast": 1 / 3}  # in times experts.least_squares_rows


def build_pipeline(
    schema: Schema, model: ModelConfig, experts: ExpertsConfig = DEFAULT_EXPERTS
) -> compose.Pipeline:
    """An untaught pipeline for a stream: raw rows in, target units out.

    Parameters
    ----------
    schema
        The stream's features and context features.
    model
        Settings of the estimators.
    experts
        Which experts are switched on, and their settings.

    Returns
    -------
    Pipeline
        With the steps ``ENCODER``, ``IMPUTER`` and ``POOL``.

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
    """The experts that are switched on; ``naive`` are the context columns in target units."""
    regressors: dict[str, base.Regressor] = {}
    raw: list[str] = []  # the experts that read values as they came: their units mean something
    if experts.batch:
        regressors |= {BOOSTED: BoostedTrees(), BOOSTED_RECENT: BoostedTrees()}
        raw += [BOOSTED, BOOSTED_RECENT]
    regressors |= forest_experts(model, experts)
    if experts.trees:
        # imported here alone: with River's trees comes half of SciPy
        from online.model.experts.river.river_experts import river_experts

        regressors |= river_experts(model.seed, experts.trees_models)
    if experts.naive:
        regressors |= {column: ColumnValue(column) for column in naive}
        raw += naive
    regressors |= linear_experts(experts)
    if not regressors:
        raise ConfigError("experts: all are switched off; switch one on")
    scaler = FadedScaler(max(2, model.scaler_memory)) if model.scaler_memory else None
    return ExpertPool(regressors, dict.fromkeys(raw, FeatureView(scaled=False)), scaler)


def forest_experts(model: ModelConfig, experts: ExpertsConfig) -> dict[str, base.Regressor]:
    """The adaptive forests: one that grows deep, and a smaller one that splits early and forgets fast."""
    forests: dict[str, base.Regressor] = {}
    if experts.forest:
        forests["forest"] = AdaptiveForestRegressor(
            n_models=model.n_models, delay=model.bootstrap_delay, seed=model.seed
        )
    if experts.fast_forest:
        forests["forest_fast"] = AdaptiveForestRegressor(
            n_models=max(2, model.n_models // 2),
            grace=50.0,
            delta=1e-3,
            max_depth=8,
            slow_step=0.05,
            fast_step=0.2,
            delay=model.bootstrap_delay,
            seed=model.seed + 1,
        )
    return forests


def linear_experts(experts: ExpertsConfig) -> dict[str, base.Regressor]:
    """The linear experts."""
    regressors: dict[str, base.Regressor] = {}
    if experts.least_squares:
        for name, share in SQUARES_MEMORY.items():
            forgetting = 1.0 - 1.0 / (experts.least_squares_rows * share)
            regressors[f"squares_{name}"] = RecursiveLeastSquares(forgetting=forgetting)
    if experts.linear:
        regressors["linear"] = NormalizedLMS(step=experts.linear_step)
    return regressors
