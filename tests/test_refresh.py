"""The batch expert is trained anew beside the learner, and its model goes through the journal."""

from __future__ import annotations

import base64
import contextlib
import math
import shutil
import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from bootstrap.train import labelled_rows, train
from online.core.config import dump, load
from online.core.home import Home
from online.features.row_encoder import RowEncoder
from online.learning.refresh import Schedule, refresh
from online.learning.training_rows import gather
from online.model import train_boosted as boosting
from online.model.pipeline import BOOSTED, BOOSTED_RECENT, ENCODER, POOL
from online.storage.served_predictions import Served
from online.storage.snapshot import SnapshotStore
from tests.support.rows import TARGET
from tests.support.running import until
from tests.test_fold import Site, copied, same_model

pytestmark = pytest.mark.skipif(bool(boosting.available()), reason=boosting.available() or "there")


@pytest.fixture
def site(home: Path) -> Site:
    return Site(home)


def test_the_bootstrap_trains_the_batch_experts_and_keeps_its_rows(site: Site) -> None:
    pipeline = SnapshotStore(site.home.models).load(1).pipeline
    rows, targets = gather(site.home, site.config.schema, 50_000)
    assert all(pipeline[POOL].experts[name].trees is not None for name in (BOOSTED, BOOSTED_RECENT))
    assert rows.shape == (len(targets), len(pipeline[ENCODER].columns))
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("written", [{}, {"format": "1"}, {"format": "2"}])
def test_rows_of_the_bootstrap_of_a_later_format_are_refused_by_name(
    site: Site, written: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = site.home.training_rows
    rows, _ = gather(site.home, site.config.schema, 50_000)
    metadata = {"schema": site.config.schema.hash} | written
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(path), metadata))
    again, _ = gather(site.home, site.config.schema, 50_000)
    readable = written != {"format": "2"}
    assert len(again) == (len(rows) if readable else 0)
    assert (f"{path} is of format 2, made by a later Millrace" in caplog.text) is not readable


def test_labels_since_the_bootstrap_are_trained_on_as_they_were_served(site: Site) -> None:
    before, _ = gather(site.home, site.config.schema, 50_000)
    with site.learner() as learner:
        served = site.feed(40)
        learner.catch_up()
    rows, targets = gather(site.home, site.config.schema, 50_000)
    assert len(rows) == len(before) + 40
    assert targets[-40:].tolist() == site.labels[:40]
    columns = SnapshotStore(site.home.models).load(1).pipeline[ENCODER].columns
    names = [f"context:{name}" for name in served[-1].context]
    assert [rows[-1, columns.index(name)] for name in names] == list(served[-1].context.values())


@pytest.mark.slow
def test_rows_of_the_bootstrap_are_trained_on_as_late_labels_would_have_left_them(site: Site) -> None:
    late = 7
    with site.learner() as learner:
        served: list[Served] = []
        for place in range(60):
            served += site.serve(1)
            if place >= late:
                site.label([{"id": served[place - late].id, TARGET: site.labels[place - late]}])
            learner.catch_up()
    rows, _ = gather(site.home, site.config.schema, 50_000)
    schema = site.config.schema
    encoder = RowEncoder(schema.used, schema.context)
    first = [row for part in ("train", "validation") for row in labelled_rows(site.home, part, site.config)]
    wanted = []
    for place, (features, _) in enumerate(first):
        if place > late:
            encoder.learn_one(*first[place - late - 1])
        wanted.append([math.nan if v is None else v for v in encoder.transform_one(features).values()])
    known = ~np.isnan(np.array(wanted))
    assert np.allclose(rows[: len(first)][known], np.array(wanted)[known], rtol=1e-12)


def test_refreshes_come_soon_after_the_bootstrap_then_regularly() -> None:
    schedule = Schedule(2000, learned=500, since_bootstrap=0)
    due = [label for label in range(10_000) if schedule.due(500 + label, label)]
    assert due == [250, 500, 1000, 2000, 4000, 6000, 8000]
    again = Schedule(2000, learned=3500, since_bootstrap=3000)
    assert [label for label in range(3000, 6000) if again.due(500 + label, label)] == [5000]
    never = Schedule(0, learned=0, since_bootstrap=0)
    assert not any(never.due(label, label) for label in range(5000))


@pytest.mark.slow
def test_a_refresh_changes_the_recent_expert_alone_and_replays_exactly(site: Site, tmp_path: Path) -> None:
    untouched = copied(site, tmp_path / "other")
    with site.learner() as learner:
        site.feed(60)
        learner.catch_up()
        assert refresh(site.home, site.config)
        site.feed(20)
        learner.catch_up()
        pool = learner.fold.pipeline[POOL]
        recent, first = pool.experts[BOOSTED_RECENT].trees, pool.experts[BOOSTED].trees
        assert recent is not None
        assert first is not None
        assert recent.value.tolist() != first.value.tolist()
    untouched.home.journal.write_bytes(b"")
    untouched.home.journal.unlink()
    with contextlib.closing(sqlite3.connect(site.home.journal)) as source:
        source.execute("VACUUM INTO ?", (str(untouched.home.journal),))
    with untouched.learner() as learner:
        learner.catch_up()
    same_model(site, untouched)


@pytest.mark.slow
def test_the_learner_has_it_trained_by_itself(home: Path) -> None:
    config = load(Home(home).config, {"MILLRACE_REFRESH_EVERY_LABELS": "30"})
    site = Site(home)
    site.config = config
    with site.learner() as learner:
        site.feed(35)
        learner.catch_up()

        def refreshed() -> bool:
            learner.step()
            return bool(kinds(site).count("refresh"))

        until(refreshed, "the refresh", seconds=120)


@pytest.mark.slow
def test_a_stream_without_context_features_is_trained_on_too(home: Path) -> None:
    own = Home(home)
    config = msgspec.structs.replace(load(own.config, {}), context=())
    own.config.write_text(dump(config))
    shutil.rmtree(own.models)
    train(own.create(), config, Console(quiet=True))
    site = Site(home)
    with site.learner() as learner:
        site.feed(40)
        learner.catch_up()
        refresh(site.home, site.config)
        learner.catch_up()
        assert kinds(site)[-1] == "refresh"
    rows, targets = gather(site.home, site.config.schema, 50_000)
    assert targets[-40:].tolist() == site.labels[:40]
    assert rows.shape == (len(targets), len(site.plan().encoder.columns))


def kinds(site: Site) -> list[str]:
    journal = site.journal()
    try:
        return [record.kind for record in journal.read(0, 10_000)]
    finally:
        journal.close()


@pytest.mark.slow
def test_a_model_in_the_journal_is_the_one_that_serves(site: Site) -> None:
    with site.learner() as learner:
        site.feed(60)
        learner.catch_up()
        refresh(site.home, site.config)
        learner.catch_up()
        journal = site.journal()
        record = next(one for one in journal.read(0, 10_000) if one.kind == "refresh")
        journal.close()
        row = site.rows[100]
        recent = learner.fold.pipeline[POOL].experts[BOOSTED_RECENT]
        guess = learner.fold.predict(row).outputs[
            list(learner.fold.pipeline[POOL].experts).index(BOOSTED_RECENT)
        ]
        fresh = type(recent)()
        fresh.replace(base64.b64decode(record.payload["model"]))
        assert fresh.trees is not None
        assert fresh.trees.value.tolist() == recent.trees.value.tolist()
        assert np.isfinite(guess)
