"""Whatever is submitted, killed or reopened: every accepted label is in the journal, once, as served."""

from __future__ import annotations

import concurrent.futures
import math
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.stateful as stateful
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import online.storage.journal
from online.core.config import LedgerConfig, QuarantineConfig
from online.core.errors import InputError, JournalError
from online.core.schema import Feature, Schema, Target
from online.labels.ingest import LabelIngest
from online.labels.label_joiner import InlineLabelStore, LabelJoiner
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog, Served
from online.storage.records import Receipt, Record, Submission
from tests.support.predictions import served_like

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = Schema(
    "s", Target("y", 0, 100), (Feature("wind", "numeric"), Feature("site", "category", values=("A",)))
)
ABSURD = "outside the plausible range"


def open_ledger(path: Path) -> PredictionLog:
    return PredictionLog(path, SCHEMA, LedgerConfig(1000, flush_seconds=60.0, max_queued=1000))


# Against a model in memory

finite = st.floats(allow_nan=False, allow_infinity=False)
targets = st.sampled_from([0.0, -0.0, 5.0, 5.5, 1e-320])
rows = st.sampled_from([{"wind": 1.0}, {"wind": 1.0, "site": "A"}, {"site": None}, {"wind": "x", "site": 3}])
numbers = st.integers(0, 30)


class JournalMachine(stateful.RuleBasedStateMachine):
    """Journal and ledger do what a few dictionaries do, reopened or not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 0.0
        self.served: dict[str, Served] = {}
        self.records: list[Record] = []
        self.quarantine: list[tuple[Record, int | None]] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.folder / "journal.db", "s")
        self.ledger = open_ledger(self.folder / "ledger.db")

    def teardown(self) -> None:
        self.journal.close()
        self.ledger.close()
        shutil.rmtree(self.folder)

    # the model

    def newest(self, name: str) -> Record | None:
        return next((r for r in reversed(self.records) if r.id == name and r.target is not None), None)

    def expect(self, new: Record) -> int:
        self.records.append(msgspec.structs.replace(new, seq=len(self.records) + 1))
        return len(self.records)

    def set_aside(self, name: str | None, served: Served | None, new: Submission) -> Receipt:
        for seq, (kept, _) in enumerate(self.quarantine, start=1):
            if name is not None and (name, new.target) == (kept.id, kept.target):
                return Receipt("duplicate", seq)
        self.quarantine.append((labelled(name, served, new), None))
        return Receipt("quarantined", len(self.quarantine))

    def expected(self, new: Submission) -> tuple[Receipt, str | None]:
        """What a submission must be answered, and the id it must go by (None: a made up one)."""
        name, served = new.id, new.candidates[0].read() if new.candidates else None
        if name is None:
            targets = {one.id: getattr(self.newest(one.id), "target", None) for one in new.candidates}
            free = [one for one in new.candidates if targets[one.id] is None]
            same = [one for one in new.candidates if targets[one.id] == new.target]
            chosen = next(iter(free or same), None)
            served = chosen.read() if chosen else None
            name = served.id if served else None
        known = None if name is None else self.newest(name)
        if known is not None and known.target == new.target:
            return Receipt("duplicate", known.seq), name
        if new.suspicion:
            return self.set_aside(name, served, new), name
        if known is not None:
            return Receipt("correction", self.expect(corrected(known, new))), name
        if served is None and new.features is None:
            return self.set_aside(name, None, new), name
        return Receipt("accepted", self.expect(labelled(name, served, new))), name

    def submit(self, *submissions: Submission) -> None:
        receipts = self.journal.append(submissions)
        for submission, receipt in zip(submissions, receipts, strict=True):
            before = len(self.records)
            wanted, name = self.expected(submission)
            assert (receipt.status, receipt.seq) == (wanted.status, wanted.seq)
            assert (receipt.reason is not None) == (receipt.status == "quarantined")
            if name is None and len(self.records) > before:  # the journal made up an id
                (kept,) = self.journal.read(receipt.seq - 1, 1)
                self.records[-1] = msgspec.structs.replace(self.records[-1], id=kept.id)
            elif name is None and wanted.status == "quarantined":
                made_up = self.journal.quarantine(1)[0].record.id
                self.quarantine[-1] = (msgspec.structs.replace(self.quarantine[-1][0], id=made_up), None)

    def tick(self) -> float:
        self.now += 0.5
        return self.now

    def by_name(self, name: str, target: float, **others: Any) -> Submission:
        return Submission(
            target, self.tick(), name, candidates=tuple(self.ledger.find([name]).values()), **others
        )

    # what may happen

    @stateful.rule(
        name=numbers, features=rows, prediction=finite, experts=st.lists(finite, max_size=3).map(tuple),
        context=st.dictionaries(st.sampled_from(["level", "by site"]), finite),
    )  # fmt: skip
    def serve(
        self, name: int, features: dict[str, Any], prediction: float, experts: Any, context: Any
    ) -> None:
        if str(name) in self.served:
            return
        one = Served(
            str(name), self.tick(), features, context, experts, prediction,
            prediction - 1.0, prediction + 1.0, (), ("site",), 1, len(self.records),
        )  # fmt: skip
        self.served[one.id] = one
        self.ledger.record([one])
        self.ledger.flush()

    @stateful.rule(name=numbers, label=targets)
    def label_by_id(self, name: int, label: float) -> None:
        self.submit(self.by_name(str(name), label))

    @stateful.rule(name=numbers, label=targets, features=rows)
    def label_by_id_with_features(self, name: int, label: float, features: dict[str, Any]) -> None:
        self.submit(self.by_name(str(name), label, features=features))

    @stateful.rule(features=rows, label=targets)
    def label_without_id(self, features: dict[str, Any], label: float) -> None:
        self.submit(
            Submission(label, self.tick(), None, features, served_like(self.ledger, SCHEMA, features))
        )

    @stateful.rule(name=numbers, label=targets, times=st.integers(2, 4))
    def label_twice_in_one_batch(self, name: int, label: float, times: int) -> None:
        self.submit(*(self.by_name(str(name), label + (i == 3)) for i in range(times)))

    @stateful.rule(name=numbers, label=st.sampled_from([1e9, -1e9, 1e100]))
    def absurd_label(self, name: int, label: float) -> None:
        self.submit(self.by_name(str(name), label, suspicion=ABSURD))

    @stateful.rule(features=rows, label=st.sampled_from([1e9, 2e9]))
    def absurd_label_without_id(self, features: dict[str, Any], label: float) -> None:
        candidates = served_like(self.ledger, SCHEMA, features)
        self.submit(Submission(label, self.tick(), None, features, candidates, ABSURD))

    @stateful.rule(seq=st.integers(-1, 12))
    def release(self, seq: int) -> None:
        at = self.tick()
        if not 1 <= seq <= len(self.quarantine):
            with pytest.raises(InputError, match=str(seq)):
                self.journal.release(seq, at)
            return
        kept, released_as = self.quarantine[seq - 1]
        assert kept.target is not None
        known = self.newest(kept.id)
        empty = kept.prediction is None and not kept.features and known is None
        if released_as is None and (abs(kept.target) > 1e30 or empty):
            with pytest.raises(InputError, match=str(seq)):
                self.journal.release(seq, at)
            return
        if released_as is None:
            if known is not None:
                new = msgspec.structs.replace(known, kind="correction", target=kept.target, received_at=at)
            else:
                new = msgspec.structs.replace(kept, kind="release", received_at=at)
            released_as = self.expect(new)
            self.quarantine[seq - 1] = (kept, released_as)
        assert self.journal.release(seq, at) == released_as

    @stateful.rule(version=st.integers(1, 3), kind=st.sampled_from(["rollback", "snapshot"]))
    def order(self, version: int, kind: Any) -> None:
        at = self.tick()
        seq = self.journal.append_command(kind, at, version=version)
        (kept,) = self.journal.read(seq - 1)
        assert seq == self.expect(Record(0, "s", kept.id, at, kind, payload={"version": version}))

    @stateful.rule()
    def reopen(self) -> None:
        self.journal.close()
        self.ledger.close()
        self.open()

    @stateful.rule()
    def crash(self) -> None:
        """Leave the open database as it is and go on with a copy, as after a power cut."""
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.folder, copy, dirs_exist_ok=True)
        self.journal.close()
        self.ledger.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.open()

    # what must hold

    @stateful.invariant()
    def the_journal_holds_every_record_as_it_was_served(self) -> None:
        kept = self.journal.read(0)
        assert [record.seq for record in kept] == list(range(1, len(kept) + 1))
        assert kept == self.records
        assert [bits(record) for record in kept] == [bits(record) for record in self.records]
        middle = len(kept) // 2
        assert self.journal.read(middle, 3) == kept[middle : middle + 3]
        assert self.journal.last_seq() == len(kept)

    @stateful.invariant()
    def the_quarantine_holds_every_label_set_aside(self) -> None:
        kept = [(q.seq, q.record, q.released_as) for q in reversed(self.journal.quarantine())]
        assert kept == [(seq, record, to) for seq, (record, to) in enumerate(self.quarantine, start=1)]


def bits(record: Record) -> tuple[Any, ...]:
    """The floats of a record to the last bit; SQLite's own columns know no negative zero."""
    blobs = [*record.experts, *record.context.values()]
    reals = [record.prediction, record.lower, record.upper, record.target, record.served_at]
    return (*(value.hex() for value in blobs), *(None if v is None else (v + 0.0).hex() for v in reals))


def corrected(known: Record, new: Submission) -> Record:
    return msgspec.structs.replace(known, kind="correction", target=new.target, received_at=new.received_at)


def labelled(name: str | None, served: Served | None, new: Submission) -> Record:
    head = (0, "s", name or "", new.received_at)
    if served is None:
        return Record(*head, "label", features=new.features or {}, target=new.target)
    return Record(
        *head, "label", served.features, served.context, served.experts, served.prediction, served.lower,
        served.upper, served.served_at, served.plan_seq, new.target,
    )  # fmt: skip


TestJournalMachine = pytest.mark.slow(JournalMachine.TestCase)
TestJournalMachine.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# Several processes, and killed ones

APPEND = """
import sys
from pathlib import Path
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.records import Submission
path, who, count, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
journal = Journal(path, "s")
print("ready", flush=True)
sys.stdin.readline()
for first in range(0, count, batch):
    numbers = range(first, first + batch)
    receipts = journal.append([Submission(float(n), 1.0, f"{who}-{n}", {"wind": n}) for n in numbers])
    for n, receipt in zip(numbers, receipts):
        print(receipt.status, receipt.seq, f"{who}-{n}", flush=True)
"""


def appending(path: Path, who: str, count: int, batch: int) -> subprocess.Popen[str]:
    """A process that appends labels and prints their receipts, once a line is written to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", APPEND, str(path), who, str(count), str(batch)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def receipts(lines: list[str]) -> dict[str, int]:
    """Seqs by id from the whole lines a process printed."""
    return {name: int(seq) for _, seq, name in (line.split() for line in lines if line.endswith("\n"))}


@pytest.mark.slow
def test_two_processes_append_at_once_without_gaps_or_losses(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    both = [appending(path, who, 120, batch) for who, batch in (("a", 1), ("b", 3))]
    for process in both:
        go(process)
    printed: dict[str, Any] = {}
    for process in both:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        printed |= receipts(output.splitlines(keepends=True))
    kept = Journal(path, "s").read(0)
    assert [record.seq for record in kept] == list(range(1, 241))
    assert {record.id: record.seq for record in kept} == printed
    assert {record.target for record in kept} == set(map(float, range(120)))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7])
def test_a_process_killed_while_appending_has_kept_every_receipt_it_gave(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "journal.db"
    process = appending(path, "a", 10**6, batch)
    go(process)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    printed = receipts(lines)
    journal = Journal(path, "s")
    kept = journal.read(0, 10**6)
    assert [record.seq for record in kept] == list(range(1, len(kept) + 1))
    assert len(kept) % batch == 0  # a batch is there as a whole or not at all
    by_id = {record.id: record.seq for record in kept}
    assert len(by_id) == len(kept)
    assert printed.items() <= by_id.items()
    again = journal.append([Submission(float(n), 2.0, f"a-{n}", {"wind": n}) for n in range(len(kept))])
    assert {receipt.status for receipt in again} == {
        "duplicate"
    }  # a client that retries is not learned twice


# Damage

FULL = """
import resource, sys
from pathlib import Path
from online.core.config import LedgerConfig
from online.core.errors import JournalError
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.records import Submission
journal = Journal(Path(sys.argv[1]), "s")
journal.append([Submission(0.0, 1.0, "first", {"wind": 1})])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
kept = 0
for n in range(10_000):
    try:
        journal.append([Submission(1.0, 1.0, f"{n}-{m}", {"wind": "x" * 200}) for m in range(20)])
    except JournalError as exc:
        assert "journal.db" in str(exc), exc
        break
    kept += 20
else:
    raise SystemExit("never full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append([Submission(2.0, 1.0, "after", {"wind": 1})])
print(kept)
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_that_keeps_nothing_of_the_batch_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    kept = Journal(path, "s").read(0, 10**6)
    assert [record.seq for record in kept] == list(range(1, len(kept) + 1))
    assert [kept[0].id, kept[-1].id] == ["first", "after"]
    assert len(kept) == int(done.stdout) + 2


def filled(path: Path, count: int = 5) -> Journal:
    journal = Journal(path, "s")
    journal.append([Submission(float(n), 1.0, f"a-{n}", {"wind": n}) for n in range(count)])
    return journal


@pytest.mark.parametrize("missing", [1, 3, 4])
def test_a_deleted_record_is_named(tmp_path: Path, missing: int) -> None:
    journal = filled(tmp_path / "journal.db")
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("DELETE FROM journal WHERE seq = ?", (missing,))
    with pytest.raises(JournalError, match=rf"record {missing} is missing"):
        journal.read(0)
    assert [record.seq for record in journal.read(missing)] == list(range(missing + 1, 6))


def test_a_deleted_last_record_is_named_by_the_next(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db")
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("DELETE FROM journal WHERE seq = 5")
    assert journal.append([Submission(1.0, 1.0, "b", {"wind": 1})]) == [Receipt("accepted", 6)]
    with pytest.raises(JournalError, match="record 5 is missing"):
        journal.read(0)


def test_a_read_only_database_is_an_error_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    filled(path).close()

    def read_only(file: Path, _: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)

    monkeypatch.setattr(online.storage.journal, "connect", read_only)
    journal = Journal(path, "s")
    for change in (
        lambda: journal.append([Submission(1.0, 1.0, "b", {"wind": 1})]),
        lambda: journal.append_command("snapshot", 1.0),
    ):
        with pytest.raises(JournalError, match=r"journal\.db"):
            change()
    assert len(journal.read(0)) == 5


def test_a_database_that_is_none_is_an_error(tmp_path: Path) -> None:
    garbled = tmp_path / "journal.db"
    garbled.write_bytes(random.Random(1).randbytes(5000))
    for path in (garbled, tmp_path, tmp_path / "no" / "folder.db"):
        with pytest.raises(JournalError, match=str(path)):
            Journal(path, "s")


def test_a_database_damaged_under_way_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 400).close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(JournalError):
        journal = Journal(path, "s")
        journal.read(0)


@pytest.mark.parametrize("seq", [0, -1, 7, 2**63, 10**30, -(10**30)])
def test_releasing_what_is_not_in_quarantine_names_it(tmp_path: Path, seq: int) -> None:
    with pytest.raises(InputError, match=str(seq)) as caught:
        filled(tmp_path / "journal.db").release(seq, 1.0)
    assert caught.value.field == "seq"


def test_a_released_correction_keeps_what_was_served(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", "s")
    served = Served("a", 1.0, {"wind": 1.0}, {"level": 0.1}, (0.2, 0.3), 0.25, 0.0, 1.0, (), (), 1, 0)
    journal.append([Submission(5.0, 2.0, "a", candidates=(served,))])
    journal.append([Submission(1e9, 3.0, "a", candidates=(served,), suspicion=ABSURD)])
    (label,) = journal.read(0)
    (released,) = journal.read(journal.release(1, 4.0) - 1)
    wanted = msgspec.structs.replace(label, seq=2, kind="correction", target=1e9, received_at=4.0)
    assert released == wanted


# One piece


@pytest.mark.parametrize("served", [True, False], ids=["served", "not served"])
@pytest.mark.parametrize("place", range(3))
def test_a_record_with_any_byte_changed_is_damaged(tmp_path: Path, served: bool, place: int) -> None:
    journal = Journal(tmp_path / "journal.db", "s")
    one = Served(
        "a", 1.0, {"wind": 1.5}, {"level": 0.1}, (0.2,), 0.25, 0.0, 1.0, (), (), 1, 0, "by", b"12345678"
    )
    journal.append([Submission(5.0, 2.0, "a", {"wind": 1.5}, (one,) if served else ())])
    (kept,) = journal.read(0)
    assert (kept.encoded, kept.schema_hash) == ((b"12345678", "by") if served else (b"", ""))
    with sqlite3.connect(tmp_path / "journal.db") as db:
        (text,) = db.execute("SELECT record FROM journal").fetchone()
        at = (len(text) - 1) * place // 2
        db.execute("UPDATE journal SET record = ?", (text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :],))
    with pytest.raises(JournalError, match="record 1 is damaged"):
        journal.read(0)


@pytest.mark.parametrize(
    "column", ["id = 'b'", "target = 6", "received_at = 3", "kind = 'release'", "plan_seq = 7"]
)
def test_a_column_that_does_not_agree_with_its_record_is_damage(tmp_path: Path, column: str) -> None:
    journal = Journal(tmp_path / "journal.db", "s")
    journal.append([Submission(5.0, 2.0, "a", {"wind": 1.5})])
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute(f"UPDATE journal SET {column}")
    with pytest.raises(JournalError, match="record 1 is damaged"):
        journal.read(0)


def test_a_label_set_aside_that_cannot_be_released_refuses_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = LabelValidator(SCHEMA, QuarantineConfig())
    journal = Journal(tmp_path / "journal.db", "s", watch)
    journal.append([Submission(50.0, 1.0, f"a-{n}", {"wind": 5.0}) for n in range(200)])
    assert journal.cut(100, 9.0, 1000) == 100
    (aside,) = journal.append([Submission(900.0, 2.0, "a-5", {"wind": 5.0})])  # corrects one that was cut
    assert aside.status == "quarantined"
    more = [journal.append([Submission(900.0, 3.0, f"b-{n}", {"wind": 5.0})])[0] for n in range(60)]
    assert {receipt.status for receipt in more[:5]} == {"quarantined"}
    assert more[-1].status == "accepted"  # so many are no fault of theirs
    left = {label.seq: label for label in journal.quarantine() if label.released_as is None}
    assert set(left) == {aside.seq}
    assert caplog.text.count("cannot be released") == 1
    with sqlite3.connect(tmp_path / "journal.db") as db:
        assert db.execute("SELECT count(*) FROM journal WHERE id LIKE 'b-%'").fetchone() == (60,)


# Ingest


def ingest_into(path: Path, ledger: PredictionLog) -> LabelIngest:
    joiner = LabelJoiner(SCHEMA, lambda: Journal(path, "s"), ledger)
    return LabelIngest(SCHEMA, InlineLabelStore(joiner), clock=lambda: 1.0, predictions=ledger)


def test_labels_accepted_from_many_threads_are_all_there_once(tmp_path: Path) -> None:
    ledger = PredictionLog(
        tmp_path / "ledger.db", SCHEMA, LedgerConfig(1000, flush_seconds=0.01, max_queued=1000)
    )
    ingest = ingest_into(tmp_path / "journal.db", ledger)
    served = [
        Served(f"p{n}", 0.5, {"wind": float(n)}, {"level": n / 3}, (n / 7,), n / 9, 0.0, 1.0, (), (), 1, 0)
        for n in range(200)
    ]
    ledger.record(served)

    def send(start: int) -> list[Receipt]:
        labels = ingest.validate(
            [{"id": f"p{(start + n) % 200}", "y": float(start + n) % 100} for n in range(50)]
        )
        return ingest.accept(labels).result(30)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [
            receipt for batch in pool.map(send, [n % 200 for n in range(0, 800, 25)]) for receipt in batch
        ]
    ingest.close()
    ledger.close()
    kept = Journal(tmp_path / "journal.db", "s").read(0)
    assert [record.seq for record in kept] == list(range(1, len(kept) + 1))
    by_seq = {record.seq: record for record in kept}
    assert {receipt.seq for receipt in answers if receipt.status in ("accepted", "correction")} == set(by_seq)
    assert {record.id for record in kept} == {one.id for one in served}
    for record in kept:
        n = int(record.id[1:])
        assert (record.features, record.context, record.experts) == (
            {"wind": float(n)},
            {"level": n / 3},
            (n / 7,),
        )
        assert (record.prediction, record.served_at, record.received_at) == (n / 9, 0.5, 1.0)


def test_ingest_refuses_wrong_labels_and_names_them(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db")
    ingest = ingest_into(tmp_path / "journal.db", ledger)
    right = {"id": "a", "y": 1.0}
    targets: tuple[Any, ...] = (None, math.nan, math.inf, "3", True, [1], 10**400, {})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"id": "a"}, "y"),
        *(({"id": "a", "y": target}, "y") for target in targets),
        *(({"id": name, "y": 1.0}, "id") for name in ("", "x" * 201, "a\0b", 1.5, True, [1])),
        ({"y": 1.0}, "id"),
        ({"y": 1.0, "unknown": 3}, "id"),
    ]
    for row, field in wrong:
        with pytest.raises(InputError) as caught:
            ingest.validate([right, row])
        assert (caught.value.field, caught.value.index) == (field, 1), row
    ingest.close()
    ledger.close()

    assert Journal(tmp_path / "journal.db", "s").last_seq() == 0


def test_ingest_answers_that_nothing_was_kept_when_the_journal_fails(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db")
    ingest = ingest_into(tmp_path / "journal.db", ledger)
    labels = ingest.validate([{"id": "a", "wind": 1, "y": 1.0}])
    first = ingest.validate([{"id": "b", "wind": 1, "y": 1.0}])
    assert ingest.accept(first).result(30) == [Receipt("accepted", 1)]
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("ALTER TABLE journal RENAME TO elsewhere")
    with pytest.raises(JournalError, match="no label of this request was kept"):
        ingest.accept(labels).result(30)
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("ALTER TABLE elsewhere RENAME TO journal")
    assert ingest.accept(labels).result(30) == [Receipt("accepted", 2)]
    ingest.close()
    ledger.close()
