"""Predictions as served, found as a label without an id finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from online.core.schema import Schema
from online.features.value_encoder import Encoder
from online.storage.prediction_log import PredictionLog
from online.storage.served_predictions import Served, fingerprints


def served_like(log: PredictionLog, schema: Schema, features: Mapping[str, Any]) -> tuple[Served, ...]:
    """The last predictions made from just these features, oldest first."""
    marks = fingerprints(np.array([Encoder.of(schema).encode(features).values])).tolist()
    (candidates,) = log.find_by_fingerprint(marks)
    return tuple(served for served in (candidate.read() for candidate in candidates) if served is not None)
