"""A file that another process replaces is noticed, each version once."""

from __future__ import annotations

import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from online.core import file_watcher
from online.core.file_watcher import FileWatcher
from online.core.home import write_atomically
from tests.support.running import until


class Reader:
    """What has been read of a file, version by version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions: list[bytes] = []

    def read(self) -> None:
        content = self.path.read_bytes()
        if content == b"torn":
            raise ValueError("torn")
        self.versions.append(content)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "file")


@pytest.fixture
def watcher(reader: Reader) -> Iterator[FileWatcher]:
    watching = FileWatcher(reader.path, reader.read, 0.005, "test")
    yield watching
    watching.close()


def test_each_version_is_taken_once(reader: Reader, watcher: FileWatcher) -> None:
    watcher.refresh()
    assert reader.versions == []
    for content in (b"one", b"two", b"two"):
        write_atomically(reader.path, content)
        watcher.refresh()
        watcher.refresh()
    assert reader.versions == [b"one", b"two", b"two"]


def test_a_version_of_the_same_moment_and_size_is_another_one(reader: Reader, watcher: FileWatcher) -> None:
    write_atomically(reader.path, b"one")
    watcher.refresh()
    before = reader.path.stat()
    write_atomically(reader.path, b"two")
    os.utime(reader.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    watcher.refresh()
    assert reader.versions == [b"one", b"two"]


def test_a_file_that_goes_and_comes_back_is_taken_again(reader: Reader, watcher: FileWatcher) -> None:
    write_atomically(reader.path, b"one")
    watcher.refresh()
    reader.path.unlink()
    watcher.refresh()
    write_atomically(reader.path, b"three")
    watcher.refresh()
    assert reader.versions == [b"one", b"three"]


def test_the_thread_goes_on_after_a_version_that_cannot_be_taken(
    reader: Reader, watcher: FileWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    watcher.start()
    write_atomically(reader.path, b"torn")
    until(lambda: "cannot be taken" in caplog.text, "the torn version to be told")
    write_atomically(reader.path, b"one")
    until(lambda: reader.versions == [b"one"], "the next version")
    assert caplog.text.count("cannot be taken") == 1


def test_nothing_is_taken_once_it_is_closed(reader: Reader, watcher: FileWatcher) -> None:
    watcher.start()
    watcher.close()
    write_atomically(reader.path, b"one")
    assert reader.versions == []


def test_the_example_runs() -> None:
    assert doctest.testmod(file_watcher).failed == 0
