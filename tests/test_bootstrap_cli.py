import hashlib
import sys
import types
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from bootstrap.bootstrap_command import bootstrap
from bootstrap.sources.fetch import Fetched
from online.core.config import Config, load
from online.core.errors import ConfigError, InputError, MillraceError, SchemaError, SnapshotError
from online.core.home import Home

DAYS = "30"


def run(*words: object) -> Result:
    result = CliRunner().invoke(bootstrap, [str(word) for word in words], env={"COLUMNS": "160"})
    if isinstance(result.exception, MillraceError):
        raise result.exception
    return result


@pytest.fixture
def home(tmp_path: Path) -> Home:
    assert run("generate", "--home", tmp_path, "--days", DAYS).exit_code == 0
    return Home(tmp_path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Stands in for training, and remembers the settings it was called with."""
    calls: list[Config] = []

    def train(home: Home, config: Config, _console: Console) -> None:
        assert (home.data / "train.csv").exists()
        calls.append(config)

    stand_in = types.ModuleType("bootstrap.train")
    stand_in.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bootstrap.train", stand_in)
    return calls


def test_generate_writes_both_halves_once(home: Home) -> None:
    assert (home.data / "raw.csv").exists()
    assert (home.data / "stream.csv").exists()
    with pytest.raises(InputError, match="exists"):
        run("generate", "--home", home.root, "--days", DAYS)


def test_bootstrap_infers_splits_writes_settings_and_trains(home: Home, trained: list[Config]) -> None:
    result = run(
        "--home", home.root, "--data", home.data / "raw.csv", "--target", "Production", "--drop", "Season"
    )
    assert result.exit_code == 0, result.output
    assert "Start_Hour" in result.output
    config = load(home.config, {})
    assert trained == [config]
    assert config.stream == "production"
    assert {f.name: f.kind for f in config.features}["Season"] == "dropped"
    train, validation = ((home.data / f"{n}.csv").read_text().splitlines() for n in ("train", "validation"))
    assert len(train) - 1 == pytest.approx(4 * (len(validation) - 1), abs=4)


@pytest.mark.usefixtures("trained")
def test_bootstrap_writes_the_settings_that_infer_writes(home: Home) -> None:
    run("infer", "--home", home.root, "--target", "Production")
    inferred = home.config.read_text()
    assert "[[context]]" in inferred
    home.config.unlink()
    assert run("--home", home.root, "--target", "Production").exit_code == 0
    assert home.config.read_text() == inferred


def test_train_keeps_edited_settings(home: Home, trained: list[Config]) -> None:
    run("infer", "--home", home.root, "--target", "Production", "--stream", "farm")
    home.config.write_text(home.config.read_text().replace("n_models = 20", "n_models = 9"))
    run("split", "--home", home.root, "--fraction", "0.5")
    assert run("train", "--home", home.root).exit_code == 0
    assert trained[0].model.n_models == 9
    assert trained[0].stream == "farm"


def test_settings_are_never_overwritten(home: Home, trained: list[Config]) -> None:
    home.config.write_text("mine")
    for words in (
        ("--target", "Production", "--home", home.root),
        ("infer", "--target", "Production", "--home", home.root),
    ):
        with pytest.raises(ConfigError, match=r"millrace\.toml exists: run 'millrace bootstrap train'"):
            run(*words)
    assert home.config.read_text() == "mine"
    assert not (home.data / "train.csv").exists()
    assert trained == []


def test_a_home_with_a_model_is_not_bootstrapped_again(home: Home, trained: list[Config]) -> None:
    home.create()
    (home.models / "model_v3.json").write_text("{}")
    with pytest.raises(SnapshotError, match=r"model_v3\.json exists"):
        run("--home", home.root, "--target", "Production")
    assert not home.config.exists()
    assert trained == []


def test_a_dry_run_shows_the_schema_and_writes_nothing(home: Home) -> None:
    result = run("infer", "--home", home.root, "--target", "Production", "--dry-run")
    assert "cyclic" in result.output
    assert not home.config.exists()


def test_data_is_looked_for_from_here_then_from_the_home(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    infer = ("infer", "--dry-run", "--home", home.root)
    assert "Production" in run(*infer, "--target", "Production", "--data", "data/raw.csv").output
    (here / "data").mkdir()
    (here / "data" / "raw.csv").write_text("a,b\n1,2\n2,1\n3,5\n")
    assert "stream b" in run(*infer, "--target", "b", "--data", "data/raw.csv").output
    assert "Production" in run(*infer, "--target", "Production").output  # the default is the home's own
    with pytest.raises(InputError, match=r"nowhere\.csv is missing"):
        run(*infer, "--target", "b", "--data", "nowhere.csv")


def test_the_stream_is_named_after_its_file(home: Home) -> None:
    farm = home.root / "wind farm.csv"
    farm.write_bytes((home.data / "raw.csv").read_bytes())
    result = run("infer", "--dry-run", "--home", home.root, "--data", farm, "--target", "Production")
    assert "stream wind farm" in result.output


def test_a_missing_target_is_named_with_what_there_is(home: Home) -> None:
    with pytest.raises(SchemaError, match=r"'Output'.*Production"):
        run("infer", "--home", home.root, "--target", "Output")


def test_split_without_settings_says_what_to_do_first(home: Home) -> None:
    with pytest.raises(ConfigError, match="millrace bootstrap"):
        run("split", "--home", home.root)


def test_rows_left_out_are_counted(home: Home) -> None:
    run("infer", "--home", home.root, "--target", "Production")
    lines = (home.data / "raw.csv").read_text().splitlines()
    lines[5] = lines[5].rsplit(",", 1)[0] + ","
    (home.data / "raw.csv").write_text("\n".join(lines) + "\n")
    assert "1 without a usable label left out" in run("split", "--home", home.root).output


@pytest.mark.parametrize("words", [("--home", "x", "infer", "--target", "y"), ("--target", "y", "train")])
def test_options_before_a_subcommand_are_refused_not_lost(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "after the subcommand" in result.output


def test_no_target_and_no_subcommand_is_a_usage_error() -> None:
    result = run()
    assert result.exit_code == 2
    assert "--target" in result.output


def test_every_subcommand_takes_a_home() -> None:
    for command in (bootstrap, *bootstrap.commands.values()):
        assert "--home" in {option for parameter in command.params for option in parameter.opts}


def test_fetch_writes_into_the_home_and_prints_the_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    asked: dict[str, object] = {}

    def fake(url: str, to: Path, **options: object) -> Fetched:
        asked.update(options, url=url, to=to)
        return Fetched(12_345, digest)

    monkeypatch.setattr("bootstrap.sources.fetch.fetch", fake)
    result = run("fetch", "--home", tmp_path, "--url", "http://there/x", "--sha256", digest)
    assert (asked["to"], asked["sha256"]) == (tmp_path / "data" / "raw.csv", digest)
    assert "12,345 rows" in result.output
    assert digest in result.output
