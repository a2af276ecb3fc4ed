"""A wrong setting is refused before anything starts, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from online.core.config import Config, dump, load
from online.core.errors import ConfigError
from online.core.schema import ContextFeature, Feature, Target

CONFIG = Config(
    "energy",
    Target("y", 0.0, 10.0),
    (
        Feature("wind", "numeric", low=0.0, high=30.0),
        Feature("site", "category", values=("A", "B")),
        Feature("hour", "cyclic", low=0.0, high=23.0, period=24.0),
    ),
    (ContextFeature("by site", ("site",), 0.1),),
)
SECTIONS = ("model", "experts", "learner", "refresh", "ledger", "drift", "server")


def written(folder: Path, text: str) -> Path:
    path = folder / "millrace.toml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(folder: Path, old: str, new: str) -> Path:
    """The settings with one text replaced."""
    text = dump(CONFIG)
    assert text.count(old) >= 1, old
    return written(folder, text.replace(old, new, 1))


def refused(path: Path, *names: str, environ: dict[str, str] | None = None) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    for name in names:
        assert name in str(caught.value)


def test_settings_load_with_their_defaults(tmp_path: Path) -> None:
    text = 'stream = "s"\nfeatures = []\n[target]\nname = "y"\n'
    assert load(written(tmp_path, text), {}) == Config("s", Target("y"), ())
    assert load(written(tmp_path, dump(CONFIG)), {}) == CONFIG


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ledger.waiting", "ledger.max_queued"),
        ("quarantine.slack", "quarantine.range_margin"),
        ("quarantine.surprise", "quarantine.error_factor"),
        ("quarantine.crowd", "quarantine.majority_share"),
        ("learner.pace_labels", "learner.backpressure_labels"),
        ("learner.pace_seconds", "learner.backpressure_seconds"),
        ("drift.behind_rows", "drift.max_lag_rows"),
    ],
)
def test_a_renamed_setting_is_known_by_its_old_name_with_a_warning(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (section, old_name), (_, new_name) = old.split("."), new.split(".")
    value = "0.5" if section == "quarantine" else "3"
    head = 'stream = "s"\nfeatures = []\n[target]\nname = "y"\n'
    wanted = load(written(tmp_path, f"{head}[{section}]\n{new_name} = {value}\n"), {})
    assert caplog.text == "" and wanted != load(written(tmp_path, head), {})
    path = written(tmp_path, f"{head}[{section}]\n{old_name} = {value}\n")
    assert load(path, {}, quiet=True) == wanted and caplog.text == ""
    assert load(path, {}) == wanted
    assert f"{path}: old names" in caplog.text and f"{old} is now {new}" in caplog.text
    caplog.clear()
    variables = [f"MILLRACE_{section}_{name}".upper() for name in (old_name, new_name)]
    assert load(written(tmp_path, head), {variables[0]: value}) == wanted
    assert f"{variables[0]} is now {variables[1]}" in caplog.text
    both = written(tmp_path, f"{head}[{section}]\n{old_name} = {value}\n{new_name} = {value}\n")
    refused(both, f"{old} is now {new}")


@pytest.mark.parametrize("section", SECTIONS)
def test_unknown_setting_is_named(section: str, tmp_path: Path) -> None:
    refused(changed(tmp_path, f"[{section}]\n", f"[{section}]\nhots = 3\n"), "hots", section)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ('stream = "energy"', 'stream = "energy"\nstraem = "x"', "straem"),
        ('kind = "numeric"', 'kind = "numeric"\nwidth = 3', "width"),
        ('name = "by site"', 'name = "by site"\nfadding = 0.1', "fadding"),
        ("[target]", "[target]\nunit = 3", "unit"),
        ("[model]", "[models]", "models"),
        ('stream = "energy"', "", "stream"),
        ('name = "y"', "", "name"),
        ('kind = "numeric"', "", "kind"),
    ],
)
def test_unknown_or_missing_field_is_named(old: str, new: str, name: str, tmp_path: Path) -> None:
    refused(changed(tmp_path, old, new), name, "millrace.toml")


WRONG_VALUES = [
    ("model.n_models", ["1", "101", "2.5", '"3"', "true", "[3]", "99999999999999999999999"]),
    ("model.seed", ['"1"', "1.5"]),
    ("model.bootstrap_delay", ["-1", "100001"]),
    ("model.scaler_memory", ["-1"]),
    ("model.coverage", ["0", "1.0", "0.0", "-0.1", "nan", "inf", '"0.9"']),
    ("experts.forest", ["1", '"yes"']),
    ("experts.fast_forest", ["0"]),
    ("experts.least_squares", ["0.5"]),
    ("experts.least_squares_rows", ["29", "1000001", "1.5"]),
    ("experts.linear", ["0"]),
    ("experts.linear_step", ["0", "1.1", "nan"]),
    ("experts.naive", ["1"]),
    ("experts.batch", ["1"]),
    ("experts.trees", ["1"]),
    ("experts.trees_models", ["1", "101"]),
    ("learner.snapshot_every_labels", ["0", "-1", "1.5", '"many"']),
    ("learner.snapshot_every_minutes", ["0", "-1.0", "nan", '"x"']),
    ("learner.publish_seconds", ["0", "-1", "nan", "inf", "1e300", '"0.1"']),
    ("learner.poll_seconds", ["0", "nan", "inf"]),
    ("learner.backpressure_labels", ["-1", "0.5"]),
    ("learner.backpressure_seconds", ["-0.1", "nan", "inf"]),
    ("drift.alarms_per_week", ["0", "1.5"]),
    ("drift.rows_per_week", ["0"]),
    ("drift.month_rows", ["199"]),
    ("drift.cooldown_rows", ["0"]),
    ("drift.poll_seconds", ["0", "nan"]),
    ("drift.max_lag_rows", ["0"]),
    ("drift.webhook", ["1"]),
    ("drift.log_bytes", ["0"]),
    ("drift.log_files", ["0"]),
    ("learner.max_waiting", ["0", "1.5"]),
    ("learner.history_rows", ["0"]),
    ("learner.snapshot_key", ["3"]),
    ("refresh.every_labels", ["-1", "0.5"]),
    ("refresh.rows", ["0", "1.5"]),
    ("ledger.rows", ["0", "1.5", "-1"]),
    ("ledger.flush_seconds", ["0", "-1", "nan", "inf"]),
    ("ledger.max_queued", ["0"]),
    ("ledger.days", ["-1", "nan"]),
    ("server.host", ["1"]),
    ("server.port", ["-1", "65536", '"8000"', "80.5"]),
    ("server.monitor_port", ["-1", "65536"]),
    ("server.workers", ["0", "65"]),
    ("server.max_batch_rows", ["0"]),
    ("server.max_body_bytes", ["0"]),
    ("server.admin_key", ["1"]),
    ("server.log_level", ["1", '"loud"']),
    ("server.log_format", ["1", '"xml"']),
]


@pytest.mark.parametrize(("setting", "values"), WRONG_VALUES)
def test_wrong_type_or_value_out_of_range_is_named(setting: str, values: list[str], tmp_path: Path) -> None:
    section, name = setting.split(".")
    for value in values:
        lines = dump(CONFIG).splitlines()
        start = lines.index(f"[{section}]")
        place = next(i for i, line in enumerate(lines) if i > start and line.startswith(f"{name} = "))
        lines[place] = f"{name} = {value}"
        refused(written(tmp_path, "\n".join(lines)), name, section)


def test_every_setting_is_checked_here() -> None:
    assert {setting for setting, _ in WRONG_VALUES} == {
        f"{section}.{field}" for section in SECTIONS for field in getattr(CONFIG, section).__struct_fields__
    }


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('kind = "numeric"', 'kind = "number"', ["kind"]),
        ("low = 0.0\nhigh = 30.0", "low = 0.0", ["wind", "high"]),
        ("high = 30.0", "high = -1.0", ["wind"]),
        ("high = 30.0", "high = inf", ["wind"]),
        ("high = 30.0", "high = nan", ["wind"]),
        ("high = 30.0", "high = 1e31", ["wind"]),
        ("high = 10.0", "high = -10.0", ["'y'"]),
        ("high = 10.0", "high = nan", ["'y'"]),
        ("period = 24.0", "period = 0", ["hour", "period"]),
        ("period = 24.0", "period = -24", ["hour", "period"]),
        ("period = 24.0", "period = nan", ["hour", "period"]),
        ("period = 24.0", "period = inf", ["hour", "period"]),
        ("period = 24.0", "", ["hour", "period"]),
        ('values = ["A", "B"]', "", ["site"]),
        ('values = ["A", "B"]', 'values = ["A", "A"]', ["site"]),
        ('values = ["A", "B"]', "values = [1]", ["values"]),
        ('values = ["A", "B"]', f'values = ["{"x" * 257}"]', ["site"]),
        ('name = "wind"', 'name = ""', ["feature"]),
        ('name = "wind"', 'name = "site"', ["site", "twice"]),
        ('name = "wind"', 'name = "y"', ["'y'"]),
        ('name = "wind"', 'name = "id"', ["'id'"]),
        ('by = ["site"]', 'by = ["wind"]', ["by site", "wind"]),
        ('by = ["site"]', 'by = ["nobody"]', ["by site", "nobody"]),
        ("fading = 0.1", "fading = 0.0", ["by site", "fading"]),
        ("fading = 0.1", "fading = 1.1", ["by site", "fading"]),
        ("fading = 0.1", "fading = nan", ["by site", "fading"]),
    ],
)
def test_a_schema_that_cannot_be_used_is_named(old: str, new: str, names: list[str], tmp_path: Path) -> None:
    refused(changed(tmp_path, old, new), *names)


# Environment


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("MILLRACE_SERVER_PORT", "9000", ("server", "port", 9000)),
        ("MILLRACE_SERVER_ADMIN_KEY", "123", ("server", "admin_key", "123")),
        ("MILLRACE_SERVER_HOST", "::", ("server", "host", "::")),
        ("MILLRACE_LEARNER_SNAPSHOT_EVERY_LABELS", "7", ("learner", "snapshot_every_labels", 7)),
        ("MILLRACE_LEARNER_PUBLISH_SECONDS", "1", ("learner", "publish_seconds", 1.0)),
        ("MILLRACE_MODEL_COVERAGE", "0.5", ("model", "coverage", 0.5)),
        ("MILLRACE_LEDGER_ROWS", "10", ("ledger", "rows", 10)),
    ],
)
def test_environment_overrides_the_file(variable: str, value: str, wanted: Any, tmp_path: Path) -> None:
    section, name, setting = wanted
    loaded = load(written(tmp_path, dump(CONFIG)), {variable: value, "PATH": "/bin"})
    changed_section = msgspec.structs.replace(getattr(CONFIG, section), **{name: setting})
    assert loaded == msgspec.structs.replace(CONFIG, **{section: changed_section})


def test_environment_sets_what_the_file_leaves_out(tmp_path: Path) -> None:
    path = written(tmp_path, 'stream = "s"\nfeatures = []\n[target]\nname = "y"\n')
    assert load(path, {"MILLRACE_SERVER_PORT": "1"}).server.port == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MILLRACE_SERVER_PORT", "many"),
        ("MILLRACE_SERVER_PORT", "65536"),
        ("MILLRACE_SERVER_PORT", ""),
        ("MILLRACE_MODEL_COVERAGE", "nan"),
        ("MILLRACE_LEDGER_FLUSH_SECONDS", "inf"),
        ("MILLRACE_LEARNER_PACE_SECONDS", "-1"),
        ("MILLRACE_SERVER_PROT", "8000"),
        ("MILLRACE_PORT", "8000"),
        ("MILLRACE_STREAM", "energy"),
        ("MILLRACE_", ""),
    ],
)
def test_wrong_variable_is_named(variable: str, value: str, tmp_path: Path) -> None:
    refused(written(tmp_path, dump(CONFIG)), variable, environ={variable: value})


@pytest.mark.parametrize("wrong", ["server = 3", 'server = "x"', "server = [1]"])
def test_a_section_that_is_no_table_is_named_with_or_without_an_override(wrong: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'stream = "s"\nfeatures = []\n{wrong}\n[target]\nname = "y"\n')
    refused(path, "server")
    refused(path, "server", environ={"MILLRACE_SERVER_PORT": "1"})


# Files


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    refused(tmp_path / "millrace.toml", "millrace.toml", "bootstrap")


def test_a_folder_or_no_text_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path.name)
    (tmp_path / "millrace.toml").write_bytes(b"\xff\xfe\x00stream")
    refused(tmp_path / "millrace.toml", "millrace.toml")


@pytest.mark.parametrize("text", ["", "stream", "stream = ", "[", "stream = 1\nstream = 2", "{}", "\0"])
def test_garbled_file_is_named(text: str, tmp_path: Path) -> None:
    refused(written(tmp_path, text), "millrace.toml")


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_damaged_anywhere_loads_or_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(dump(CONFIG).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 20))
        content[start : start + gone] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"[[", b'"', b"=", b"inf"])
        )
    path = tmp_path / "millrace.toml"
    path.write_bytes(content)
    try:
        assert isinstance(load(path, {}), Config)
    except ConfigError as exc:
        assert "millrace.toml" in str(exc)
