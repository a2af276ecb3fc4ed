"""The batch expert: boosted trees trained from arrays, packed without pickle, scored by our own kernel."""

from __future__ import annotations

import math
import pickle
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.core.errors import MissingLibraryError
from online.model import train_boosted as boosting
from online.model.experts.boosted import BoostedTrees, pack_trees, unpack_trees

COLUMNS = ("wind", "hour", "level")
Floats = npt.NDArray[np.float64]
needs_lightgbm = pytest.mark.skipif(bool(boosting.available()), reason=boosting.available())


def table(n: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)) * [3.0, 10.0, 1000.0]
    return rows, np.where(rows[:, 0] > 0, 5.0, -5.0) * rows[:, 1] + rows[:, 2] / 100 + 1e5


def trained(rows: Floats, targets: Floats, seed: int) -> bytes:
    packed_trees = boosting.train(rows, targets, COLUMNS, seed=seed)
    assert packed_trees is not None
    return packed_trees


def as_dict(row: Floats) -> dict[str, float]:
    return dict(zip(COLUMNS, row.tolist(), strict=True))


@needs_lightgbm
def test_trained_trees_score_as_lightgbm_does() -> None:
    rows, targets = table(2000, seed=1)
    model = BoostedTrees()
    model.replace(trained(rows, targets, seed=1))
    middle, unit = targets.mean(), targets.std()
    data = boosting.library().Dataset(rows, (targets - middle) / unit)
    own = boosting.library().train(boosting.LIGHTGBM_PARAMS | {"seed": 1}, data, boosting.BOOSTING_ROUNDS)
    probes, truths = table(300, seed=2)
    wanted = middle + unit * own.predict(probes)
    got = [model.predict_one(as_dict(row)) for row in probes]
    assert got == pytest.approx(wanted.tolist(), rel=1e-12)
    assert np.abs(np.array(got) - truths).mean() < 0.2 * truths.std()


@needs_lightgbm
def test_the_same_rows_and_seed_give_the_same_bytes() -> None:
    rows, targets = table(500, seed=3)
    assert boosting.train(rows, targets, COLUMNS, seed=1) == boosting.train(rows, targets, COLUMNS, seed=1)


@needs_lightgbm
def test_too_few_rows_or_one_target_train_nothing() -> None:
    rows, targets = table(500, seed=4)
    assert boosting.train(rows[:49], targets[:49], COLUMNS, seed=1) is None
    assert boosting.train(rows, np.full(500, 7.0), COLUMNS, seed=1) is None


@needs_lightgbm
def test_a_model_lives_in_a_pickle_and_gives_way_to_a_newer_one() -> None:
    model = BoostedTrees()
    for seed in (5, 6):
        rows, targets = table(300, seed)
        model.replace(trained(rows, targets + seed * 1e4, seed=1))
        assert model.predict_one(as_dict(rows[0])) == pytest.approx(targets[0] + seed * 1e4, abs=60)
    restored = pickle.loads(pickle.dumps(model))
    assert restored.predict_one(as_dict(rows[0])) == model.predict_one(as_dict(rows[0]))


def test_without_a_model_or_a_column_there_is_no_prediction() -> None:
    model = BoostedTrees()
    assert math.isnan(model.predict_one({"wind": 1.0}))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert "libgomp1" in boosting.available()
    with pytest.raises(MissingLibraryError, match="libgomp1"):
        boosting.train(*table(100, seed=7), COLUMNS, seed=1)


@needs_lightgbm
@pytest.mark.parametrize("place", ["root", "feature", "left", "right"])
def test_tables_that_do_not_fit_together_are_refused_and_the_old_model_stays(place: str) -> None:
    rows, targets = table(300, seed=8)
    model = BoostedTrees()
    model.replace(trained(rows, targets, seed=1))
    trees, before = model.trees, model.predict_one(as_dict(rows[0]))
    assert trees is not None
    wrong = getattr(trees, place).copy()
    wrong[0] = 10**6
    with pytest.raises(ValueError, match="do not fit"):
        model.replace(pack_trees(trees._replace(**{place: wrong})))
    assert model.predict_one(as_dict(rows[0])) == before


@given(content=st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_foreign_bytes_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="no model"):
        unpack_trees(content)
