"""Snapshots: ``models/model_vN.pkl`` and its manifest ``model_vN.json``.

The ``.pkl`` holds two pickles, one after the other: first the River pipeline, which ``pickle.load`` gives to
anyone with River and this package, then the rest of what the fold needs. The manifest is written last: a
``.pkl`` without one does not count. Version numbers only grow. Somebody who loads a snapshot by hand calls
``millrace.load_model``.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import json
import logging
import math
import pickle
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from online.core.errors import SchemaError, SnapshotError
from online.core.home import write_atomically
from online.core.schema import Schema
from online.storage.class_paths import SNAPSHOT_FORMAT, read_pickles

__all__ = ["LoadedSnapshot", "Manifest", "Probe", "Provenance", "SnapshotStore", "version_of_path"]

if TYPE_CHECKING:  # a scorer lists and checks snapshots, and needs no River for it
    from river.compose import Pipeline

log = logging.getLogger(__name__)

RIVER_VERSION = importlib.metadata.version("river")
FILE_NAME_PATTERN = re.compile(r"model_v([1-9][0-9]*)\.(?:pkl|json)")


class Probe(msgspec.Struct, frozen=True):
    """A row, and what the model predicted for it when it was pickled, in target units."""

    features: dict[str, Any]
    prediction: float


class Provenance(msgspec.Struct, frozen=True):
    """Where a snapshot comes from.

    ``seq`` is the last journal record learned, ``parent`` the version it grew from (None for the first),
    ``reason`` one of bootstrap, labels, time, shutdown, request, rollback, replay, adopted; ``created_at``
    unix seconds; ``metrics`` what was measured of the model at that moment.
    """

    schema: Schema
    seq: int
    parent: int | None
    reason: str
    created_at: float
    metrics: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True):
    """What is known of a snapshot without loading it: its :class:`Provenance`, and what it is checked by.

    ``format`` says how the ``.pkl`` is to be read; a manifest without one is of format 1.
    """

    version: int
    seq: int
    parent: int | None
    reason: str
    created_at: float
    sha256: str
    size_bytes: int
    schema: Schema
    probe: Probe
    metrics: dict[str, Any]
    python: str
    river: str
    numpy: str
    hmac: str | None = None
    format: int = 1


class ManifestFormat(msgspec.Struct):
    """The part of a manifest that every version can read."""

    format: int = 1


class LoadedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that passed its checks."""

    manifest: Manifest
    pipeline: Any
    state: Any


class SnapshotStore:
    """The snapshots of one home. Any number of processes write and read.

    Parameters
    ----------
    folder
        Where they are.
    key
        When not empty, manifests are signed with it (HMAC-SHA256) and unsigned snapshots refused.
    """

    def __init__(self, folder: Path, key: str = "") -> None:
        self._folder = folder
        self._key = key.encode()
        self._reported: set[int] = set()  # versions whose manifest was said to be unreadable

    def versions(self) -> list[int]:
        """Versions with a manifest, oldest first."""
        return sorted(int(name[1]) for name in self._names() if name[0].endswith(".json"))

    def pinned(self) -> set[int]:
        """Versions that are kept until they are unpinned."""
        return {version for version in self.versions() if self._path(version, "pinned").exists()}

    def pin(self, version: int, *, keep: bool = True) -> None:
        """Keep a version whatever the retention settings say, or no longer.

        Parameters
        ----------
        version
            The version; pinning one that is pinned is no error.
        keep
            Whether it is pinned or unpinned.

        Raises
        ------
        SnapshotError
            There is no such version, or the folder cannot be written to.
        """
        if version not in self.versions():
            raise SnapshotError(f"there is no model_v{version}; there are {self.versions()}")
        path = self._path(version, "pinned")
        try:
            if keep:
                write_atomically(path, b"")
            else:
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise SnapshotError(f"{path} cannot be changed: {exc}") from exc

    def remove(self, version: int) -> None:
        """Remove a version: the manifest first, without which it does not count. Raises SnapshotError."""
        try:
            for suffix in ("json", "pkl", "pinned"):
                self._path(version, suffix).unlink(missing_ok=True)
        except OSError as exc:
            raise SnapshotError(f"model_v{version} cannot be removed: {exc}") from exc

    def next_version(self) -> int:
        """One more than any version there is or was begun."""
        return max((int(name[1]) for name in self._names()), default=0) + 1

    def _names(self) -> list[re.Match[str]]:
        names = (FILE_NAME_PATTERN.fullmatch(path.name) for path in self._folder.glob("model_v*"))
        return [name for name in names if name is not None]

    def save(
        self, pipeline: Pipeline, state: object, probe: dict[str, Any], provenance: Provenance
    ) -> Manifest:
        """Write the next version.

        Parameters
        ----------
        pipeline
            The River pipeline.
        state
            The rest of what the fold needs.
        probe
            A row; what the pipeline predicts for it is recorded, and checked when the snapshot is loaded.
        provenance
            Where it comes from.

        Returns
        -------
        Manifest
            Snapshot and manifest are durable.

        Raises
        ------
        SnapshotError
            It cannot be written.
        """
        content = pickle.dumps(pipeline, pickle.HIGHEST_PROTOCOL) + pickle.dumps(
            state, pickle.HIGHEST_PROTOCOL
        )
        manifest = Manifest(
            version=self._reserve(),
            **msgspec.structs.asdict(provenance),
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            probe=Probe(probe, pipeline.predict_one(probe)),
            python=platform.python_version(),
            river=RIVER_VERSION,
            numpy=np.__version__,
            format=SNAPSHOT_FORMAT,
        )
        manifest = msgspec.structs.replace(manifest, hmac=self._sign(manifest))
        try:
            write_atomically(self._path(manifest.version, "pkl"), content)
            text = json.dumps(msgspec.to_builtins(manifest), indent=1, ensure_ascii=False)
            write_atomically(self._path(manifest.version, "json"), text.encode())
        except OSError as exc:
            self.remove(manifest.version)
            raise SnapshotError(f"model_v{manifest.version} cannot be written: {exc}") from exc
        return manifest

    def _reserve(self) -> int:
        """Take the next version's number, by creating its file: a replay may write one beside the learner."""
        while True:
            version = self.next_version()
            try:
                self._path(version, "pkl").open("xb").close()
            except FileExistsError:
                continue
            except OSError as exc:
                raise SnapshotError(f"model_v{version} cannot be written: {exc}") from exc
            return version

    def manifest(self, version: int) -> Manifest:
        """Read a version's manifest and check its signature.

        Raises SnapshotError when it is missing or torn, is of a later format, or has another signature.
        """
        path = self._path(version, "json")
        try:
            content = path.read_bytes()
            check_format(path, msgspec.json.decode(content, type=ManifestFormat).format)
            manifest = msgspec.json.decode(content, type=Manifest)
        except FileNotFoundError as exc:
            raise SnapshotError(f"there is no model_v{version}; there are {self.versions()}") from exc
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError, SchemaError) as exc:
            raise SnapshotError(f"{path} cannot be read: {exc}") from exc
        if manifest.version != version:
            raise SnapshotError(f"{path} is the manifest of model_v{manifest.version}")
        signature = self._sign(manifest)
        if signature is not None and not hmac.compare_digest(signature, manifest.hmac or ""):
            raise SnapshotError(f"{path}: its HMAC is not of the key in learner.snapshot_key")
        return manifest

    def manifests(self) -> list[Manifest]:
        """The manifests that can be read, newest first."""
        manifests = []
        for version in reversed(self.versions()):
            try:
                manifests.append(self.manifest(version))
            except SnapshotError as exc:
                if version not in self._reported:  # the monitor asks every few seconds
                    log.warning("left out of the list of snapshots: %s", exc)
                self._reported.add(version)
        return manifests

    def check(self, version: int) -> Manifest:
        """Check a version's manifest, signature, hash and River version without unpickling it.

        Raises SnapshotError, saying which check failed.
        """
        return self._verified(version)[0]

    def load(self, version: int) -> LoadedSnapshot:
        """Load a version that passes every check, the probe row included.

        Returns
        -------
        LoadedSnapshot
            Manifest, pipeline and state.

        Raises
        ------
        SnapshotError
            A check failed; nothing was unpickled unless its hash was right.
        """
        manifest, content = self._verified(version)
        pipeline, state = unpickled(content, f"model_v{version}", manifest.format)
        scored = pipeline.predict_one(manifest.probe.features)
        # another machine's mathematics may differ in the last digit
        if not math.isclose(scored, manifest.probe.prediction, rel_tol=1e-9, abs_tol=1e-9):
            recorded = manifest.probe.prediction
            raise SnapshotError(f"model_v{version} scores its probe row {scored!r}, not {recorded!r}")
        return LoadedSnapshot(manifest, pipeline, state)

    def _verified(self, version: int) -> tuple[Manifest, bytes]:
        manifest = self.manifest(version)
        path = self._path(version, "pkl")
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise SnapshotError(f"{path} cannot be read: {exc}") from exc
        if hashlib.sha256(content).hexdigest() != manifest.sha256:
            raise SnapshotError(f"{path} is damaged: its sha256 is not the one in its manifest")
        if manifest.river != RIVER_VERSION:
            raise SnapshotError(
                f"{path} was made by River {manifest.river}, not {RIVER_VERSION}: install that version, or"
                " rebuild the model from rows and labels:"
                " millrace replay --from 1 --pipeline millrace.toml --live"
            )
        return manifest, content

    def _sign(self, manifest: Manifest) -> str | None:
        if not self._key:
            return None
        content = msgspec.json.encode(msgspec.structs.replace(manifest, hmac=None), order="deterministic")
        if manifest.format == 1:  # it was signed before there was such a field, which is encoded last
            content = content.removesuffix(b',"format":1}') + b"}"
        return hmac.new(self._key, content, "sha256").hexdigest()

    def _path(self, version: int, suffix: str) -> Path:
        return self._folder / f"model_v{version}.{suffix}"


def version_of_path(path: Path) -> int:
    """The version of a ``model_vN.pkl``. Raises SnapshotError when the file is named otherwise."""
    name = FILE_NAME_PATTERN.fullmatch(path.name)
    if name is None or path.suffix != ".pkl":
        raise SnapshotError(f"{path} is no snapshot: its name is to be model_vN.pkl")
    return int(name[1])


def check_format(path: Path, format_number: int) -> None:
    """Raise SnapshotError for a format of a later Millrace."""
    if format_number > SNAPSHOT_FORMAT:
        raise SnapshotError(
            f"{path} is of format {format_number}, made by a later Millrace: this one reads formats up to"
            f" {SNAPSHOT_FORMAT}; upgrade, or remove that version to go on from an older one"
        )


def unpickled(content: bytes, name: str, format_number: int) -> tuple[Any, Any]:
    """The two pickles of a snapshot whose hash, and HMAC where a key is set, were just checked."""
    try:
        return read_pickles(content, format_number)
    except (  # each of them is how pickle says that a class or its content is not what it was
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        TypeError,
        ValueError,
        pickle.PickleError,
    ) as exc:
        raise SnapshotError(f"{name} does not fit this version of Millrace: {exc}") from exc
