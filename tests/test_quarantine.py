"""Poison is set aside with its reason, drift is not, whatever process judges and whatever is killed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.core.config import QuarantineConfig
from online.core.errors import InputError
from online.core.schema import Feature, Schema, Target
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.records import Receipt, Submission
from tests.support.running import Server

SCHEMA = Schema("s", Target("y", 0, 100), (Feature("wind", "numeric", 0, 30), Feature("note", "dropped")))


def opened(folder: Path, **settings: float) -> Journal:
    return Journal(folder / "journal.db", "s", LabelValidator(SCHEMA, QuarantineConfig(**settings)))  # type: ignore[arg-type]


def submission(target: float, expected: float | None, n: int, wind: float = 5.0) -> Submission:
    return Submission(target, float(n), f"a-{n}", {"wind": wind}, expected=expected)


def usual(journal: Journal, count: int, first: int = 0, error: float = 3.0) -> list[Receipt]:
    """Labels whose errors are those of a model at work."""
    rng = random.Random(first)
    return journal.append(
        [submission(50 + rng.gauss(0, error), 50.0, n) for n in range(first, first + count)]
    )


def test_usual_labels_are_all_taken_in(tmp_path: Path) -> None:
    assert {receipt.status for receipt in usual(opened(tmp_path), 2000)} == {"accepted"}


@pytest.mark.parametrize(
    ("target", "wind", "words"),
    [
        (1e6, 5.0, "y 1e+06 lies outside the plausible range"),
        (-500.0, 5.0, "outside the plausible range"),
        (51.0, 1e5, "wind 100000 lies outside the plausible range"),
        (95.0, 5.0, "was expected to be about 50"),
    ],
)
def test_each_kind_of_poison_is_set_aside_with_its_reason_and_teaches_the_rules_nothing(
    tmp_path: Path, target: float, wind: float, words: str
) -> None:
    journal = opened(tmp_path)
    usual(journal, 300)
    for n in range(1000, 1400, 20):  # 5 %
        (receipt,) = journal.append([submission(target, 50.0, n, wind)])
        assert receipt.status == "quarantined" and words in (receipt.reason or "")
        assert {receipt.status for receipt in usual(journal, 19, n + 1)} == {"accepted"}
    assert len(journal.quarantine()) == 20


def test_when_the_world_changes_all_labels_are_taken_in_those_set_aside_meanwhile_too(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    usual(journal, 300)
    statuses = []
    for n in range(300, 400):
        statuses += [receipt.status for receipt in journal.append([submission(400.0 + n % 5, 50.0, n)])]
    assert statuses == ["quarantined"] * 19 + ["accepted"] * 81
    kept = journal.read(0, 10_000)
    assert sorted(record.id for record in kept) == sorted(f"a-{n}" for n in range(400))
    assert {quarantined.released_as is None for quarantined in journal.quarantine()} == {False}
    assert usual(journal, 1, 2000)[0].status == "accepted"


def test_a_label_without_anything_expected_of_it_is_judged_by_ranges_alone(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    usual(journal, 300)
    receipts = journal.append([submission(95.0, None, 1000), submission(1e6, None, 1001)])
    assert [receipt.status for receipt in receipts] == ["accepted", "quarantined"]


def test_a_flood_from_one_source_is_set_aside_and_others_are_not(tmp_path: Path) -> None:
    journal = opened(tmp_path, labels_per_minute=60)
    flood = [Submission(50.0, 10.0, f"f-{n}", {"wind": 1}, source="sensor 7") for n in range(100)]
    other = [Submission(50.0, 10.0, f"o-{n}", {"wind": 1}, source="sensor 8") for n in range(10)]
    receipts = journal.append(flood)
    assert [receipt.status for receipt in receipts] == ["accepted"] * 60 + ["quarantined"] * 40
    assert "'sensor 7' sends more than 60 labels a minute" in (receipts[-1].reason or "")
    assert {receipt.status for receipt in journal.append(other)} == {"accepted"}
    later = [Submission(50.0, 40.0, f"l-{n}", {"wind": 1}, source="sensor 7") for n in range(40)]
    assert [receipt.status for receipt in journal.append(later)] == ["accepted"] * 30 + ["quarantined"] * 10


def test_a_label_corrected_again_and_again_is_no_longer_learned(tmp_path: Path) -> None:
    journal = opened(tmp_path, corrections=3)
    statuses = [
        journal.append([Submission(50.0 + n % 2, float(n), "a", {"wind": 1})])[0].status for n in range(6)
    ]
    assert statuses == ["accepted", *["correction"] * 3, "quarantined", "duplicate"]


def test_a_discarded_label_is_never_released_and_a_released_one_never_discarded(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([submission(1e6, None, 1), submission(2e6, None, 2)])
    journal.discard(1)
    journal.discard(1)
    with pytest.raises(InputError, match="was discarded"):
        journal.release(1, 5.0)
    assert journal.release(2, 5.0) == 1
    with pytest.raises(InputError, match="was released"):
        journal.discard(2)
    with pytest.raises(InputError, match="no quarantined label 9"):
        journal.discard(9)
    assert [(one.seq, one.discarded, one.released_as) for one in journal.quarantine()] == [
        (2, False, 1), (1, True, None),
    ]  # fmt: skip


labels = st.lists(
    st.tuples(
        st.one_of(st.floats(-1e30, 1e30), st.floats(0, 100)), st.one_of(st.none(), st.floats(0, 100)),
        st.one_of(st.floats(-1e30, 1e30), st.floats(0, 30), st.sampled_from(["x", None, True])),
    ),
    min_size=1, max_size=150,
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(labels=labels, cuts=st.sets(st.integers(0, 149), max_size=4))
def test_whoever_judges_and_in_whatever_batches_the_same_labels_are_set_aside(
    tmp_path_factory: pytest.TempPathFactory, labels: list[tuple[float, float | None, float]], cuts: set[int]
) -> None:
    """Nothing a worker keeps to itself decides: reopened journals go on where the others were."""
    folders = [tmp_path_factory.mktemp("watch") for _ in range(2)]
    submissions = [submission(y, expected, n, wind) for n, (y, expected, wind) in enumerate(labels)]
    one = opened(folders[0])
    for each in submissions:
        one.append([each])
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(labels)], strict=True):
        for each in submissions[start:end]:
            journal = opened(folders[1])
            journal.append([each])
            journal.close()
    two = opened(folders[1])
    assert one.read(0, 1000) == two.read(0, 1000)
    assert one.quarantine() == two.quarantine()
    accepted = len(one.read(0, 1000)) + sum(kept.released_as is None for kept in one.quarantine())
    assert accepted == len(labels)


def test_a_quarantined_label_is_discarded_over_http(server: Server) -> None:
    aside = server.learn({"id": "nobody", "Production": 3.0})["quarantined"][0]
    answer = server.client.post(f"/quarantine/{aside['seq']}/discard")
    assert (answer.status_code, answer.json()) == (200, {"discarded": aside["seq"]})
    assert server.get("/quarantine")["quarantined"][0]["discarded"]
    assert server.client.post(f"/quarantine/{aside['seq']}/release").status_code == 422
