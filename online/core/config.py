"""``millrace.toml``: strict settings with defaults, and their overrides from the environment.

A variable ``MILLRACE_<SECTION>_<SETTING>`` overrides one setting, for instance
``MILLRACE_SERVER_ADMIN_KEY`` or ``MILLRACE_LEARNER_SNAPSHOT_EVERY_LABELS``. A setting that was renamed is
known by its old name for one release.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from online.core.errors import ConfigError, SchemaError
from online.core.schema import ContextFeature, Feature, Schema, Target

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = [
    "Config",
    "DriftConfig",
    "ExpertsConfig",
    "GuardConfig",
    "LearnerConfig",
    "LedgerConfig",
    "ModelConfig",
    "QuarantineConfig",
    "RefreshConfig",
    "RetentionConfig",
    "ServerConfig",
    "dump",
    "load",
]

log = logging.getLogger(__name__)

PREFIX = "MILLRACE_"
# (section, old name): new name
RENAMED_SETTINGS = {
    ("drift", "behind_rows"): "max_lag_rows",
    ("learner", "pace_labels"): "backpressure_labels",
    ("learner", "pace_seconds"): "backpressure_seconds",
    ("ledger", "waiting"): "max_queued",
    ("quarantine", "crowd"): "majority_share",
    ("quarantine", "slack"): "range_margin",
    ("quarantine", "surprise"): "error_factor",
}
OTHER_VARIABLES = frozenset({"MILLRACE_STREAMS"})  # read by tests and benchmarks, which may start servers

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the pipeline is built.

    ``n_models`` trees make the forest, drawn from ``seed``; intervals aim to cover ``coverage`` of the
    labels. In the bootstrap, labels come ``bootstrap_delay`` rows late. Rows are standardised by all that
    came before, or, with ``scaler_memory``, by about so many of late.
    """

    n_models: Annotated[int, msgspec.Meta(ge=2, le=100)] = 20
    seed: int = 1
    coverage: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9
    bootstrap_delay: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 24
    scaler_memory: Annotated[int, msgspec.Meta(ge=0)] = 0


class ExpertsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which experts are in the pool, and what they are tuned by; at least one must be on.

    ``forest``: ``model.n_models`` adaptive trees; ``fast_forest``: half as many that split early and stay
    small. ``least_squares``: three linear models that remember ten times ``least_squares_rows``, so many, and
    a third of it. ``linear``: normalised LMS of ``linear_step``. ``naive``: each context feature in target
    units as a forecast of its own. ``batch``: LightGBM. ``trees``: ``trees_models`` of River's adaptive trees
    bagged, and one alone.
    """

    forest: bool = True
    fast_forest: bool = True
    least_squares: bool = True
    least_squares_rows: Annotated[int, msgspec.Meta(ge=30, le=1_000_000)] = 1000
    linear: bool = True
    linear_step: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.03
    naive: bool = True
    batch: bool = True
    trees: bool = False
    trees_models: Annotated[int, msgspec.Meta(ge=2, le=100)] = 3


class LearnerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the learner publishes and snapshots.

    A snapshot is taken every ``snapshot_every_labels`` labels and every ``snapshot_every_minutes`` minutes
    in which a label was learned. A changed plan is published soon when no label waits, else every
    ``publish_seconds``. With ``snapshot_key`` set, manifests carry an HMAC and a snapshot without a right one
    is refused.

    A client that sends labels faster than they are learned is slowed: its reply waits, at most
    ``backpressure_seconds``, until no more than ``backpressure_labels`` labels are waiting. Only one that
    sends its requests one after the other gains by that: as soon as a worker has several at once, none of
    them waits. With more than ``max_waiting`` labels accepted and not learned yet, further ones are refused.
    """

    snapshot_every_labels: Positive = 5000
    snapshot_every_minutes: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    publish_seconds: Seconds = 0.2
    poll_seconds: Seconds = 0.01
    backpressure_labels: Annotated[int, msgspec.Meta(ge=0)] = 8
    backpressure_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 1.0
    max_waiting: Positive = 200_000
    history_rows: Positive = 200_000
    snapshot_key: str = ""


class RefreshConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The batch expert: trained anew every ``every_labels`` labels (0: never) on the last ``rows`` rows.

    The first times come sooner: after an eighth of that, and whenever the labels have doubled.
    """

    every_labels: Annotated[int, msgspec.Meta(ge=0)] = 2000
    rows: Positive = 50_000


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Predictions as served: how many are kept (``rows``), how often they are written.

    At most ``max_queued`` wait to be written. With ``days``, those older than that are deleted as well.
    """

    rows: Positive = 1_000_000
    days: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    flush_seconds: Seconds = 0.05
    max_queued: Positive = 100_000


class DriftConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How drift is watched for.

    No more than ``alarms_per_week`` alarms are rung in a week, and the detectors' thresholds are set for
    two thirds of that to be false at most, on average, in a week of ``rows_per_week`` rows. Detections within
    ``cooldown_rows`` rows of each other are one alarm. Last month is ``month_rows`` rows long. A watcher
    that is more than ``max_lag_rows`` behind leaves rows out. Alarms are posted to ``webhook`` as JSON.
    ``data/drift_log.csv`` is full at ``log_bytes``; so many full ones are kept.
    """

    alarms_per_week: Positive = 3
    rows_per_week: Positive = 10_000
    month_rows: Annotated[int, msgspec.Meta(ge=200)] = 1000
    cooldown_rows: Positive = 500
    poll_seconds: Seconds = 0.25
    max_lag_rows: Positive = 100_000
    webhook: str = ""
    log_bytes: Positive = 50_000_000
    log_files: Positive = 10


class QuarantineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which labels are set aside instead of learned.

    Those further than ``range_margin`` widths outside the learned range of the target or of a numeric
    feature; those whose error is above ``error_factor`` times the 95 % quantile of the recent errors; labels
    of one source beyond ``labels_per_minute`` (0 for any number); corrections of one label after so many
    ``corrections``. When at least ``majority_share`` of the last 100 labels break a learned rule, they are
    accepted.
    """

    range_margin: Annotated[float, msgspec.Meta(gt=0)] = 3.0
    error_factor: Annotated[float, msgspec.Meta(gt=0)] = 4.0
    majority_share: Annotated[float, msgspec.Meta(ge=0.02, le=1)] = 0.2
    labels_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 0
    corrections: Positive = 10


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept: the last snapshots and the newest of each of the last days, beside every pinned one.

    Of journal records younger than ``journal_days`` days, or among the last ``journal_records``, all is
    kept, of older ones only the id and the label once no snapshot to replay from needs them; with both 0
    nothing is ever cut.
    """

    snapshots_last: Positive = 10
    snapshots_daily: Annotated[int, msgspec.Meta(ge=0)] = 30
    journal_days: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    journal_records: Annotated[int, msgspec.Meta(ge=0)] = 0


class GuardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the live model counts as worse than the last good snapshot, and what is done then.

    False alarms are at least ``labels_per_false_alarm`` labels apart on average. A snapshot is good after
    ``proven_labels`` labels without a sign of the contrary. With ``rollback`` an alarm goes back to it.
    """

    labels_per_false_alarm: Annotated[int, msgspec.Meta(ge=1000)] = 100_000
    proven_labels: Positive = 1000
    rollback: bool = False


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens and what it accepts.

    Without ``admin_key``, admin calls are taken from loopback addresses only; with it, from anywhere
    with ``Authorization: Bearer <admin_key>``.

    Logs go to standard error from ``log_level`` on, as JSON lines or pretty; ``auto`` goes by whether that is
    a terminal.
    """

    host: str = "127.0.0.1"
    port: Port = 8000
    monitor_port: Port = 8050
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    max_batch_rows: Positive = 10_000
    max_body_bytes: Positive = 32 * 2**20
    admin_key: str = ""
    log_format: Literal["auto", "json", "pretty"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``millrace.toml``."""

    stream: str
    target: Target
    features: tuple[Feature, ...] = ()
    context: tuple[ContextFeature, ...] = ()
    model: ModelConfig = ModelConfig()
    learner: LearnerConfig = LearnerConfig()
    refresh: RefreshConfig = RefreshConfig()
    ledger: LedgerConfig = LedgerConfig()
    drift: DriftConfig = DriftConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    retention: RetentionConfig = RetentionConfig()
    guard: GuardConfig = GuardConfig()
    server: ServerConfig = ServerConfig()
    experts: ExpertsConfig = ExpertsConfig()

    @property
    def schema(self) -> Schema:
        """The stream's schema. Raises SchemaError when features repeat."""
        return Schema(self.stream, self.target, self.features, self.context)


# the sections of settings, in the order in which they are written
SECTIONS = (
    "model", "experts", "learner", "refresh", "ledger", "drift", "quarantine", "retention", "guard", "server",
)  # fmt: skip


def load(path: Path, environ: Mapping[str, str] = os.environ, *, quiet: bool = False) -> Config:
    """Read the settings, the environment's overrides applied.

    Parameters
    ----------
    path
        The file, ``millrace.toml``.
    environ
        The environment's variables.
    quiet
        Whether old names of settings pass without a warning: a server's first process has given it.

    Returns
    -------
    Config
        Valid settings.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, or a setting is unknown or has a wrong value; it is named.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"{path} is missing: run 'millrace bootstrap' first, or give --home") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    renamed = rename_settings(content, path)
    if renamed and not quiet:
        log.warning("%s: old names, which the next release will not know: %s", path, ", ".join(renamed))
    for section, setting, value in overrides(environ):
        if not isinstance(content.setdefault(section, {}), dict):
            raise ConfigError(f"{path}: {section} must be a table, [{section}]")
        content[section][setting] = value
    try:
        config = msgspec.convert(content, Config)
        _ = config.schema
    except (msgspec.ValidationError, SchemaError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return config


def rename_settings(content: dict[str, Any], path: Path) -> list[str]:
    """Give settings their new names; what was renamed. Raises ConfigError where both names are given."""
    renamed = []
    for (section, old), new in RENAMED_SETTINGS.items():
        settings = content.get(section)
        if not isinstance(settings, dict) or old not in settings:
            continue
        if new in settings:
            raise ConfigError(f"{path}: {section}.{old} is now {section}.{new}, and both are there")
        settings[new] = settings.pop(old)
        renamed.append(f"{section}.{old} is now {section}.{new}")
    return renamed


def overrides(environ: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    """The settings the environment overrides: (section, setting, value).

    Raises ConfigError for a ``MILLRACE_`` variable that names no setting, or has a value of a wrong type.
    """
    sections = {
        f.name: f.type
        for f in msgspec.structs.fields(Config)
        if f.name not in ("stream", "target", "features", "context")
    }
    settings = {
        f"{PREFIX}{section}_{field.name}".upper(): (section, field)
        for section, struct in sections.items()
        for field in msgspec.structs.fields(struct)
    }
    old_names = {
        f"{PREFIX}{section}_{old}".upper(): f"{PREFIX}{section}_{new}".upper()
        for (section, old), new in RENAMED_SETTINGS.items()
    }
    overriding = []
    for variable in sorted(v for v in environ if v.startswith(PREFIX) and v not in OTHER_VARIABLES):
        name = old_names.get(variable, variable)
        if name != variable:
            log.warning("%s is now %s; the next release will not know the old name", variable, name)
        if name not in settings:
            raise ConfigError(f"{variable}: no such setting; known are {', '.join(sorted(settings))}")
        section, field = settings[name]
        try:
            value = msgspec.convert(environ[variable], field.type, strict=False)  # "9000" is a number here
        except msgspec.ValidationError as exc:
            raise ConfigError(f"{variable}: {exc}") from exc
        overriding.append((section, field.name, value))
    return overriding


def dump(config: Config) -> str:
    """The settings as TOML laid out for a person to edit; :func:`load` gives the same config back."""
    import tomlkit  # for those who write settings alone: every process of a server reads them

    document = tomlkit.document()
    document.add(
        tomlkit.comment("Millrace: the stream's schema and the server's settings. Edit, then start again.")
    )
    document.add(tomlkit.comment("A change of the target or features needs a new bootstrap."))
    document.add("stream", tomlkit.item(config.stream))
    for name in ("target", *SECTIONS):
        document.add(tomlkit.nl())
        document.add(name, tomlkit.item(given(getattr(config, name))))
    document.add(tomlkit.nl())
    document.add(tomlkit.comment("kind: numeric, category, cyclic, time (its parts are used), or dropped"))
    add_tables(document, "features", config.features)
    document.add(tomlkit.nl())
    document.add(
        tomlkit.comment("what the labels that have arrived say of rows with the same values of some features")
    )
    add_tables(document, "context", config.context)
    return tomlkit.dumps(document).rstrip() + "\n"


def given(settings: msgspec.Struct) -> dict[str, Any]:
    """A section's settings, unset ones left out: TOML has no null."""
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value is not None}


def add_tables(document: TOMLDocument, name: str, entries: Sequence[msgspec.Struct]) -> None:
    """Put an array of tables at the document's end, where there are entries."""
    import tomlkit

    if entries:  # an empty array would be written at the top, before the comments
        array = tomlkit.aot()
        for entry in entries:
            array.append(tomlkit.item(given(entry)))
        document.add(name, array)
