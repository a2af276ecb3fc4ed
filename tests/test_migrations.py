"""Databases of earlier releases are brought up with what is in them, those of later ones refused."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from online.core.config import LedgerConfig
from online.core.errors import FormatError, JournalError
from online.core.home import Home
from online.core.schema import Feature, Schema, Target
from online.drift.store import DriftScoreStore, PredictionReader
from online.storage import migrate
from online.storage.database import connect, databases
from online.storage.journal import Journal
from online.storage.metrics_store import MetricsStore
from online.storage.migrate import DatabaseKind, Migration, migrations_of
from online.storage.prediction_log import PredictionLog
from online.storage.records import Submission
from tests.support.running import serving

SCHEMA = Schema("s", Target("y"), (Feature("wind", "numeric"),))
KINDS: tuple[DatabaseKind, ...] = get_args(DatabaseKind)
HOMES = Path(__file__).parent / "fixtures" / "home_of_format_1"

# before there were checksums, label validation, discarding and retention
OLDEST_JOURNAL = """
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    kind TEXT NOT NULL, features TEXT, context TEXT, experts BLOB, prediction REAL, lower REAL, upper REAL,
    served_at REAL, plan_seq INTEGER, target REAL, payload TEXT
);
CREATE UNIQUE INDEX journal_label ON journal (stream, id) WHERE kind IN ('label', 'release');
CREATE INDEX journal_id ON journal (stream, id, seq);
CREATE TABLE quarantine (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    reason TEXT NOT NULL, target REAL NOT NULL, record TEXT NOT NULL, released_as INTEGER
);
CREATE INDEX quarantine_id ON quarantine (stream, id, target);
INSERT INTO journal (stream, id, received_at, kind, features, target) VALUES
    ('s', 'a', 1.0, 'label', '{"wind":3.5}', 7.25), ('s', 'a', 2.0, 'correction', '{"wind":3.5}', 8.0);
INSERT INTO quarantine (stream, id, received_at, reason, target, record) VALUES ('s', 'b', 3.0, 'absurd', 9.0,
    '{"seq":0,"stream":"s","id":"b","received_at":3.0,"kind":"label","features":{"wind":1},"target":9.0}');
"""
OLDEST_LEDGER = """
CREATE TABLE served (
    row INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, served_at REAL NOT NULL,
    fingerprint INTEGER NOT NULL, record TEXT NOT NULL
);
CREATE UNIQUE INDEX served_id ON served (stream, id);
CREATE INDEX served_fingerprint ON served (stream, fingerprint);
INSERT INTO served (stream, id, served_at, fingerprint, record) VALUES ('s', 'a', 1.0, 2, '{}');
"""
OLDEST_HISTORY = """
CREATE TABLE status (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO status VALUES ('learner', '{"alive":true}');
"""
OLDEST = {"journal": OLDEST_JOURNAL, "ledger": OLDEST_LEDGER, "history": OLDEST_HISTORY}


def made(path: Path, script: str) -> Path:
    """A database by hand."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    return path


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def tables(path: Path) -> dict[str, Any]:
    """The columns of every table, the definition of every index."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        ).fetchall()
        columns = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for _, name, _ in rows}
        return {name: sql if type_ == "index" else columns[name] for type_, name, sql in rows}


def log_of_predictions(path: Path) -> PredictionLog:
    return PredictionLog(path, SCHEMA, LedgerConfig(10, flush_seconds=3600.0, max_queued=10))


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_are_numbered_without_gaps(kind: DatabaseKind) -> None:
    numbers = [int(migration.name[:4]) for migration in migrations_of(kind)]
    assert numbers == list(range(1, len(numbers) + 1)) != []
    assert all(migration.statements for migration in migrations_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_age_comes_to_have_the_tables_of_a_new_one(kind: DatabaseKind, tmp_path: Path) -> None:
    connect(tmp_path / "new.db", kind).close()
    old = made(tmp_path / "old.db", OLDEST[kind])
    connect(old, kind).close()
    last = Home(tmp_path / "last")
    with tarfile.open(HOMES / "default.tar.xz") as archive:
        archive.extractall(last.root, filter="data")
    assert version(databases(last)[kind]) == 0
    connect(databases(last)[kind], kind).close()
    for path in (tmp_path / "new.db", old, databases(last)[kind]):
        assert version(path) == len(migrations_of(kind))
        assert tables(path) == tables(tmp_path / "new.db")


def test_every_migration_is_in_the_package() -> None:
    storage = Path(migrate.__file__).parent
    pyproject = tomllib.loads((storage.parent.parent / "pyproject.toml").read_text())
    (pattern,) = pyproject["tool"]["setuptools"]["package-data"]["online.storage"]
    assert set(storage.glob(pattern)) == set(storage.rglob("*.sql")) != set()


def test_the_oldest_journal_keeps_its_labels_and_goes_on(tmp_path: Path) -> None:
    with contextlib.closing(Journal(made(tmp_path / "j.db", OLDEST_JOURNAL), "s")) as journal:
        label, correction = journal.read(0)
        assert (label.id, label.features, label.target) == ("a", {"wind": 3.5}, 7.25)
        assert (correction.kind, correction.target) == ("correction", 8.0)
        (aside,) = journal.quarantine()
        assert (aside.record.id, aside.reason, aside.discarded) == ("b", "absurd", False)
        assert journal.release(1, 4.0) == 3
        (receipt,) = journal.append([Submission(1.0, 5.0, "c", {"wind": 2.0})])
        assert (receipt.status, receipt.seq) == ("accepted", 4)
        assert [record.id for record in journal.read(0)] == ["a", "a", "b", "c"]


def test_what_the_history_says_outlives_its_migration(tmp_path: Path) -> None:
    with contextlib.closing(MetricsStore(made(tmp_path / "h.db", OLDEST_HISTORY))) as history:
        assert history.status() == {"learner": {"alive": True}}
        assert history.alarms() == []


def opening(path: Path) -> dict[str, Callable[[], object]]:
    """All that open each kind of file."""
    return {
        "journal": lambda: Journal(path, "s"),
        "ledger": lambda: log_of_predictions(path),
        "reader of the ledger": lambda: PredictionReader(path, SCHEMA),
        "history": lambda: MetricsStore(path),
        "drift store": lambda: DriftScoreStore(path),
    }


@pytest.mark.parametrize("opener", opening(Path()))
def test_a_file_of_a_later_release_is_refused_by_name_and_left_alone(opener: str, tmp_path: Path) -> None:
    path = made(tmp_path / "later.db", "CREATE TABLE block (last TEXT); PRAGMA user_version=99")
    content = path.read_bytes()
    words = re.escape(str(path)) + r" is of format 99, .* reads formats up to \d; upgrade Millrace"
    with pytest.raises((FormatError, JournalError), match=words):
        opening(path)[opener]()
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["later.db"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["journal", "ledger", "history"])
def test_a_home_with_a_file_of_a_later_release_is_not_served(home: Path, name: str) -> None:
    made(home / "data" / f"{name}.db", "PRAGMA user_version=99")
    command = [sys.executable, "-m", "millrace", "serve", "--home", str(home), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"{name}.db is of format 99" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_that_fails_leaves_the_file_as_it_was(
    kind: DatabaseKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "old.db", OLDEST[kind])
    before = tables(path)
    failing = Migration("9999_failing.sql", ("CREATE TABLE half (a)", "INSERT INTO nowhere VALUES (1)"), None)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations_of", lambda of: (*migrations_of(of), failing))
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            connect(path, kind)
    assert (version(path), tables(path)) == (0, before)
    connect(path, kind).close()
    assert version(path) == len(migrations_of(kind))


OPEN = """
import sys; from pathlib import Path; from online.storage.database import connect
print("ready", flush=True)
sys.stdin.readline()
for path in sys.argv[2:]:
    connect(Path(path), sys.argv[1]).close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_several_processes_may_migrate_a_file_at_once(kind: DatabaseKind, tmp_path: Path) -> None:
    """Old files and new ones, thirty of each, opened in the same order by three processes."""
    old = [made(tmp_path / f"old_{n}.db", OLDEST[kind]) for n in range(30)]
    paths = [*map(str, old), *(str(tmp_path / f"new_{n}.db") for n in range(30))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, kind, *paths],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    ends = [process.communicate("\n", timeout=60)[1] for process in processes]
    assert ends == ["", "", ""]
    assert {version(Path(path)) for path in paths} == {len(migrations_of(kind))}


@pytest.mark.server
def test_every_database_of_a_home_has_the_number_of_its_newest_migration(home: Path) -> None:
    with serving(home):
        pass
    found = {path.name: version(path) for path in (home / "data").glob("*.db")}
    wanted = {path.name: len(migrations_of(kind)) for kind, path in databases(Home(home)).items()}
    assert found == wanted


def test_a_file_with_marks_of_a_uri_in_its_path_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "a#b?c%20d"
    folder.mkdir()
    log_of_predictions(folder / "ledger.db").close()
    with contextlib.closing(PredictionReader(folder / "ledger.db", SCHEMA)) as reader:
        assert reader.last() == 0
    with contextlib.closing(Journal(folder / "journal.db", "s")) as journal:
        journal.append([Submission(1.0, 5.0, "c", {"wind": 2.0})])
        assert journal.labels_where("target = 1") == {1}
