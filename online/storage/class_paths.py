"""Where the classes in a snapshot of an earlier format are now.

A pickle names classes by module and name, so a snapshot of before a class moved is readable by these tables
alone. A module or class that moves or is renamed gets a line here, and :data:`SNAPSHOT_FORMAT` goes up once a
release. An instance attribute that is renamed is read by its class's own ``__setstate__``.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["SNAPSHOT_FORMAT", "read_pickles"]

SNAPSHOT_FORMAT = 2

# format 1: every module of the learning core lay flat in online/
MODULES = {
    "online.aggregation.aggregator": "online.model.aggregation.aggregator",
    "online.aggregation.state": "online.model.aggregation.flat_weights",
    "online.context": "online.features.context",
    "online.difficulty": "online.features.error_scale",
    "online.experts.adwin_bagging": "online.model.experts.river.adwin_bagging",
    "online.experts.boosted": "online.model.experts.boosted",
    "online.experts.column": "online.model.experts.column_value",
    "online.experts.nlms": "online.model.experts.nlms",
    "online.experts.rls": "online.model.experts.rls",
    "online.fold": "online.learning.fold",
    "online.forest.rows": "online.forest.forest_rows",
    "online.guard": "online.learning.e_detector",
    "online.histories": "online.features.context_memory",
    "online.history": "online.storage.metrics_store",
    "online.imputing": "online.model.imputing",
    "online.intervals": "online.model.intervals",
    "online.pool": "online.model.pool",
    "online.prequential": "online.learning.prequential",
    "online.row_encoder": "online.features.row_encoder",
    "online.scaling": "online.model.scaling",
    "online.schema": "online.core.schema",
    "online.slots": "online.features.segments",
    "online.stretch": "online.model.micro_batch",
    "online.whole_rows": "online.features.matrix",
}
# (module now, class then): class now
CLASSES: dict[tuple[str, str], str] = {
    ("online.features.context", "Place"): "GroupColumn",
    ("online.features.context_memory", "Near"): "NearbyMean",
    ("online.features.error_scale", "Difficulty"): "ErrorScale",
    ("online.features.matrix", "WholeRows"): "FeatureIndex",
    ("online.model.micro_batch", "View"): "FeatureView",
    ("online.learning.e_detector", "Guard"): "EDetector",
    ("online.model.aggregation.flat_weights", "Places"): "FlatOffsets",
}


class OldUnpickler(pickle.Unpickler):
    """Reads pickles of format 1."""

    def find_class(self, module: str, name: str) -> Any:
        """The class as it is now, from its module and name of then."""
        module = MODULES.get(module, module)
        return super().find_class(module, CLASSES.get((module, name), name))


def read_pickles(content: bytes, format_number: int) -> tuple[Any, Any]:
    """Read the two pickles of a snapshot whose hash was checked.

    Parameters
    ----------
    content
        The bytes of a ``model_vN.pkl``.
    format_number
        The format its manifest names, at most :data:`SNAPSHOT_FORMAT`.

    Returns
    -------
    tuple
        The River pipeline, and the rest of what the fold needs.

    Raises
    ------
    pickle.PickleError, AttributeError, EOFError, ImportError, LookupError, TypeError, ValueError
        It is no such file, or a class in it is gone.
    """
    file = io.BytesIO(content)
    reader = OldUnpickler if format_number < SNAPSHOT_FORMAT else pickle.Unpickler
    return reader(file).load(), reader(file).load()
