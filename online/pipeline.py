"""The River pipeline: encoder, imputer, and a pool of experts, which owns the scaler."""

from __future__ import annotations

from river import compose, preprocessing, stats

from online.config import ModelConfig
from online.experts.adwin_bagging import ADWINBaggingRegressor
from online.experts.boosted import BoostedTrees
from online.experts.nlms import NormalizedLMS
from online.experts.rls import RecursiveLeastSquares
from online.experts.trees import adaptive_tree
from online.pool import ExpertPool, View
from online.row_encoder import RowEncoder
from online.schema import Schema

__all__ = ["BOOSTED", "ENCODER", "IMPUTER", "POOL", "RECENT", "build_pipeline"]

BOOSTED, RECENT = "boosted", "boosted_recent"  # trained by the bootstrap; and anew with the labels since
ENCODER, IMPUTER, POOL = "encoder", "imputer", "pool"
LINEAR_STEP = 0.03  # energy, labels 24 rows late: .862 of a standard deviation, .885 at .05
IMPUTE_FADING = 0.01  # a missing value is taken to be the mean of about the last hundred


def build_pipeline(schema: Schema, model: ModelConfig) -> compose.Pipeline:
    """An untaught pipeline for a stream: raw rows in, target units out."""
    encoder = RowEncoder(schema.used, schema.context)
    columns = encoder.columns
    imputer = preprocessing.StatImputer(*((column, stats.EWMean(IMPUTE_FADING)) for column in columns))
    return compose.Pipeline(
        (ENCODER, encoder),
        (IMPUTER, imputer),
        (POOL, build_pool(model)),
    )


def build_pool(model: ModelConfig) -> ExpertPool:
    """The experts, from the configuration's seed."""
    return ExpertPool(
        {
            "bagging": ADWINBaggingRegressor(
                adaptive_tree(model.seed), n_models=model.n_models, seed=model.seed
            ),
            "tree": adaptive_tree(model.seed, watched=False),
            "linear": NormalizedLMS(step=LINEAR_STEP),
            "squares_slow": RecursiveLeastSquares(forgetting=0.9999),
            "squares_fast": RecursiveLeastSquares(forgetting=0.998),
            BOOSTED: BoostedTrees(),
            RECENT: BoostedTrees(),
        },
        {BOOSTED: View(scaled=False), RECENT: View(scaled=False)},
    )
