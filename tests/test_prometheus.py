"""Metrics as operators meet them: Prometheus' own tool, alert rules and dashboard name what is exposed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from server.observability.metrics import SAMPLED
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until

DOCKER = Path(__file__).resolve().parents[1] / "docker"
NAME = re.compile(r"\bmillrace_\w+")
SUFFIXES = ("_bucket", "_count", "_sum")


def promtool(*arguments: str, given: str = "") -> None:
    """Run Prometheus' tool; fail with what it says."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool: install prometheus to run this test")
    done = subprocess.run([tool, *arguments], input=given, capture_output=True, text=True, cwd=DOCKER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def families(exposition: str) -> set[str]:
    """Names of the metrics in an exposition."""
    return set(re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE))


def exposed(server: Server) -> str:
    """The metrics of a server that predicted, learned and set aside."""
    rows, labels = stream_rows(server.home, 20)
    ids = server.predict(rows)["ids"]
    for _ in range(SAMPLED):  # one of so many is timed stage by stage
        server.predict(rows[0] | {"Source": "Coal", "Start_Hour": None, "Colour": "red"})
    server.learn([{"id": i, TARGET: y} for i, y in zip(ids, labels, strict=True)], wait=True)
    server.learn({"id": "never served", TARGET: 1.0})
    until(lambda: server.get("/model")["prequential"].get("n"), "the learner's report")
    text: str = server.client.get("/metrics").text
    return text


@pytest.mark.slow
def test_rules_and_configuration_pass_promtool() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_live_metrics_pass_promtool_and_are_all_that_rules_and_dashboard_name(shared_server: Server) -> None:
    text = exposed(shared_server)
    known = families(text) | {f"{name}{suffix}" for name in families(text) for suffix in SUFFIXES}
    rules = {rule["expr"] for group in yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
             for rule in group["rules"]}  # fmt: skip
    panels = json.loads((DOCKER / "grafana-dashboard.json").read_text())["panels"]
    drawn = {target["expr"] for panel in panels for target in panel["targets"]}
    named = {name for expression in rules | drawn for name in NAME.findall(expression)}
    assert named - known == set()
    assert all(line.count("{") <= 1 for line in text.splitlines())
    promtool("check", "metrics", given=text)


def test_every_metric_says_what_it_is_and_in_which_unit(shared_server: Server) -> None:
    text = exposed(shared_server)
    assert families(text) == set(re.findall(r"^# HELP (millrace_\w+) \S", text, re.MULTILINE))
    assert {'predictor="served"', 'predictor="baseline"', 'predictor="frozen"'} <= set(
        re.findall(r'predictor="\w+"', text)
    )
    weights = [
        float(v) for v in re.findall(r"^millrace_expert_weight_ratio\{.*\} (\S+)$", text, re.MULTILINE)
    ]
    assert sum(weights) == pytest.approx(1.0)


@pytest.mark.server
def test_what_two_workers_count_adds_up(home: Path) -> None:
    with serving(home, "--workers", "2") as server:
        rows, _ = stream_rows(home, 40)
        for row in rows:
            server.predict(row, headers={"Connection": "close"})

        def counted() -> bool:
            text = server.client.get("/metrics").text
            found = re.search(r"^millrace_predictions_total (\S+)$", text, re.MULTILINE)
            return found is not None and float(found[1]) == len(rows)

        until(counted, "all predictions counted")
