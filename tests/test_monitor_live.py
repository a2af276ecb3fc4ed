"""The monitor beside a real server, in a real browser."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server

if TYPE_CHECKING:
    from tests.support.browser import Browser

pytest_plugins = ["tests.support.browser"]


def points(browser: Browser, chart: str) -> int:
    """How many points a chart's first line has."""
    script = "return document.querySelector(`#${arguments[0]} .js-plotly-plot`)?.data?.[0]?.x?.length ?? 0"
    return int(browser.run(script, chart))


def test_the_monitor_shows_what_the_server_learned_and_the_version_after_a_rollback(
    server: Server, browser: Browser
) -> None:
    rows, labels = stream_rows(server.home, 120)
    ids = server.predict(rows)["ids"]
    body = [{"id": name, TARGET: label} for name, label in zip(ids, labels, strict=True)]
    server.learn(body, wait=True)
    browser.open(server.monitor_url)
    browser.wait(lambda: points(browser, "rolling") == 120, "the outcomes drawn")
    browser.wait_for_text("model_v1", "#status")
    assert server.client.post("/snapshots/rollback", json={"version": 1}).status_code == 201
    browser.wait_for_text("model_v2", "#status")
    browser.wait_for_text("rollback", "#versions")
    browser.keep("live")
    assert browser.severe() == []


@pytest.mark.timeout(180)
def test_a_learner_that_stays_down_is_said(server: Server, browser: Browser) -> None:
    browser.open(server.monitor_url)
    browser.wait_for_text("model_v1", "#status")
    (pid,) = server.pids("learner")
    os.kill(pid, signal.SIGSTOP)  # a stopped process is not restarted
    try:
        browser.wait_for_text("Learner down", "#notices")
        assert "predict" in browser.text("#notices").lower()
    finally:
        os.kill(pid, signal.SIGCONT)
