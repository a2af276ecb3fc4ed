import datetime
import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from online.core.config import (
    Config,
    ExpertsConfig,
    LearnerConfig,
    LedgerConfig,
    ModelConfig,
    RefreshConfig,
    ServerConfig,
    dump,
    load,
)
from online.core.schema import ContextFeature, Feature, Target
from online.features.batch_encoder import BatchEncoder
from online.features.value_encoder import Encoder, clean, number

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FEATURES = (
    Feature("wind", "numeric", low=0, high=30),
    Feature("flow", "numeric"),
    Feature("site", "category", values=("A", "3", "2.5", "10000000000000000")),
    Feature("hour", "cyclic", low=0, high=23, period=24),
    Feature("phase", "cyclic", period=7),
    Feature("day", "cyclic", values=WEEKDAYS),
    Feature("at", "time", parts=("hour", "weekday", "yearday")),
)
NAMES = frozenset(feature.name for feature in FEATURES)

stamps = st.one_of(
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda when: when.isoformat()),
    st.dates().map(datetime.date.isoformat),
    st.datetimes().map(lambda when: when.isoformat() + "0" * 300),
)
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "A", "3", "3.0", "mon", "SUN", "Monday", "nan", "-inf", "1e999", "1_0", "٣", "0x1"]
    ),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(alphabet="0 1.e-", min_size=250, max_size=300),
    stamps,
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
anything = st.recursive(
    st.one_of(scalars, st.binary(max_size=5), st.dates(), st.integers(10**300, 10**320)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
rows = st.dictionaries(st.sampled_from(sorted(NAMES)) | st.text(max_size=5), anything, max_size=10)


def same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.slow
@given(row=rows)
@settings(max_examples=150, deadline=None)
def test_any_row_encodes_to_a_finite_or_missing_number_a_column(row: dict[str, Any]) -> None:
    encoder = Encoder(FEATURES)
    encoded = encoder.encode(row)
    assert len(encoded.values) == len(encoder.columns)
    assert not any(math.isinf(value) for value in encoded.values)
    assert set(encoded.imputed) | set(encoded.drifted) <= NAMES
    assert not set(encoded.imputed) & set(encoded.drifted)


@pytest.mark.slow
@given(row=rows)
@settings(max_examples=150, deadline=None)
def test_a_row_encodes_as_its_cleaned_copy_after_a_round_trip_through_json(row: dict[str, Any]) -> None:
    encoder = Encoder(FEATURES)
    kept = msgspec.json.decode(msgspec.json.encode(clean(row, NAMES)))
    now, later = encoder.encode(row), encoder.encode(kept)
    assert same(now.values, later.values)
    assert (now.imputed, now.drifted) == (later.imputed, later.drifted)


@pytest.mark.parametrize(
    "text",
    [
        "1_21",
        "12_1",
        "1_000.5",
        "1e1_0",
        "\u0661\u0662",
        "\u0967\u0968",
        "\uff11",
        "inf",
        "nan",
        "",
        " " * 300 + "3",
    ],
)
def test_what_python_reads_as_a_number_and_people_do_not_is_none(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12.0), (" -1.5e3\t", -1500.0), ("\u00a07\u2009", 7.0), ("+.5", 0.5)]
)
def test_numbers_as_text_are_read(text: str, value: float) -> None:
    assert number(text) == value


# settings

names = st.text(min_size=1, max_size=12)
bounds = st.floats(-1e30, 1e30)
spans = st.none() | st.tuples(bounds, bounds).map(sorted)
unique_texts = st.lists(st.text(max_size=12), min_size=1, max_size=5, unique_by=str.casefold).map(tuple)


def setting(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Any value a setting of this type may have."""
    if isinstance(kind, msgspec.inspect.IntType):
        low, high = (
            kind.ge if kind.ge is not None else -(2**63),
            kind.le if kind.le is not None else 2**63 - 1,
        )
        return st.integers(low, high)
    if isinstance(kind, msgspec.inspect.FloatType):
        least, most = (kind.ge if kind.gt is None else kind.gt), (kind.le if kind.lt is None else kind.lt)
        return st.floats(
            least, most, exclude_min=kind.gt is not None, exclude_max=kind.lt is not None,
            allow_nan=False, allow_infinity=False,
        )  # fmt: skip
    if isinstance(kind, msgspec.inspect.BoolType):
        return st.booleans()
    if isinstance(kind, msgspec.inspect.LiteralType):
        return st.sampled_from(kind.values)
    assert isinstance(kind, msgspec.inspect.StrType), f"teach this test about {kind}"
    return st.text(max_size=12)


def section(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any valid settings of one section, whatever settings it has."""
    kind = msgspec.inspect.type_info(struct)
    assert isinstance(kind, msgspec.inspect.StructType)
    return st.builds(struct, **{field.name: setting(field.type) for field in kind.fields})


@st.composite
def features(draw: st.DrawFn, name: str) -> Feature:
    low, high = draw(spans) or (None, None)
    reason = draw(st.text(max_size=20))
    kind = draw(st.sampled_from(["numeric", "category", "cyclic", "named", "time", "dropped"]))
    if kind == "numeric":
        return Feature(name, "numeric", low=low, high=high, reason=reason)
    if kind == "cyclic":
        return Feature(name, "cyclic", low=low, high=high, period=draw(st.floats(1e-9, 1e9)), reason=reason)
    if kind in ("category", "named"):
        chosen: Literal["category", "cyclic"] = "category" if kind == "category" else "cyclic"
        return Feature(name, chosen, values=draw(unique_texts), reason=reason)
    if kind == "time":
        known: tuple[Literal["hour", "weekday", "yearday"], ...] = ("hour", "weekday", "yearday")
        parts = draw(st.lists(st.sampled_from(known), unique=True))
        return Feature(name, "time", parts=tuple(parts), reason=reason)
    return Feature(name, "dropped", reason=reason)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    target, *others = draw(
        st.lists(names.filter(lambda name: name != "id"), min_size=2, max_size=5, unique=True)
    )
    low, high = draw(spans) or (None, None)
    columns = tuple(draw(features(name)) for name in others)
    return Config(
        draw(st.text(max_size=12)), Target(target, low, high), columns, draw(contexts(columns)),
        model=draw(section(ModelConfig)), learner=draw(section(LearnerConfig)),
        refresh=draw(section(RefreshConfig)), ledger=draw(section(LedgerConfig)),
        server=draw(section(ServerConfig)), experts=draw(section(ExpertsConfig)),
    )  # fmt: skip


@st.composite
def contexts(draw: st.DrawFn, columns: tuple[Feature, ...]) -> tuple[ContextFeature, ...]:
    groups = [name for column in columns for name, size in column.groups.items() if size <= 1000]
    by = st.lists(st.sampled_from(groups), max_size=2, unique=True) if groups else st.just([])
    spec = st.builds(
        ContextFeature, st.text(max_size=9), by.map(tuple), st.floats(1e-6, 1.0),
        st.sampled_from(["mean", "recent", "lag", "age"]), st.integers(1, 1000 if not groups else 1),
        st.text(max_size=9),
    )  # fmt: skip
    return tuple(draw(st.lists(spec, max_size=3, unique_by=lambda found: found.name)))


@pytest.mark.slow
@given(config=configs())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_written_for_people_read_back_the_same(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "millrace.toml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path, {}) == config


def test_a_switch_reads_the_same_as_json_and_as_csv_spell_it() -> None:
    encoder = Encoder((Feature("on", "numeric", low=0, high=1),))
    for spelled, value in ((True, 1.0), ("True", 1.0), ("false", 0.0)):
        assert encoder.encode({"on": spelled}) == ([value], [], [])


def test_a_category_code_is_known_however_a_file_spells_it() -> None:
    encoder = Encoder((Feature("site", "category", values=("3", "007")),))
    wanted = encoder.encode({"site": 3})
    assert wanted.values == [1.0, 0.0]
    assert all(encoder.encode({"site": spelled}) == wanted for spelled in ("3", "3.0", 3.0, " 3"))
    assert encoder.encode({"site": "007"}).values == [0.0, 1.0]
    assert encoder.encode({"site": "7"}).drifted == ["site"]


@given(
    wind=st.floats(-5, 35) | st.integers(-5, 35),
    hour=st.integers(-30, 50),
    site=st.sampled_from(["A", "3", "2.5", "b"]),
)
def test_values_as_they_mostly_come_encode_as_their_texts_do(wind: float, hour: int, site: str) -> None:
    encoder = Encoder(FEATURES)
    plain = {"wind": wind, "hour": hour, "site": site}
    spelled = {name: str(value) for name, value in plain.items()}
    assert repr(encoder.encode(plain)) == repr(encoder.encode(spelled))


usual = st.fixed_dictionaries(
    {"wind": st.floats(0, 30), "site": st.sampled_from(["A", "3"]), "hour": st.integers(0, 23)}
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.one_of(usual, st.dictionaries(st.sampled_from(sorted(NAMES)), anything)), max_size=8))
def test_many_rows_encode_as_each_of_them_does(rows: list[dict[str, Any]]) -> None:
    encoder = Encoder(FEATURES)
    values = np.empty((len(rows), len(encoder.columns)))
    together = BatchEncoder(FEATURES, encoder).encode(rows, values)
    alone = [encoder.encode(row) for row in rows]
    assert together == ([one.imputed for one in alone], [one.drifted for one in alone])
    assert repr(values.tolist()) == repr([one.values for one in alone])
