"""The monitor's page in a real browser, against a server that answers what the test wants."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import axe_core_python
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from server.monitor import palette
from tests.support.fake_api import busy_api, closed_port, empty_api, monitoring, played, serving

if TYPE_CHECKING:
    from tests.support.browser import Browser

pytest_plugins = ["tests.support.browser"]

CHARTS = ("truth", "rolling", "weights", "coverage", "errors", "delays")


def points(browser: Browser, chart: str) -> int:
    """How many points the first line of a drawn chart has; 0 while it is not drawn."""
    script = """const graph = document.querySelector("#" + arguments[0] + " .js-plotly-plot");
      return graph && graph._fullData && graph.data.length ? graph._fullData[0].x.length : 0"""
    return int(browser.run(script, chart))


def shows(browser: Browser, script: str, chart: str, wanted: object) -> bool:
    return bool(browser.run(script, chart) == wanted)


def drawn(browser: Browser) -> None:
    browser.wait(lambda: all(points(browser, c) for c in CHARTS), "the charts drawn")


def test_the_page_shows_status_charts_and_tables_without_console_errors(browser: Browser) -> None:
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        status = browser.wait_for_text("% better", "#status")
        assert "model_v5" in status
        assert "a second" in status
        assert "Page-Hinkley" in browser.text("#alarms")
        assert "active" in browser.text("#versions tr.active")
        assert "model_v5" in browser.text("#versions tr.active")
        assert points(browser, "rolling") == 600
        assert points(browser, "truth") == 600
        assert points(browser, "weights") > 10
        assert "No drift scores yet" in browser.text("#drift")
        assert browser.text("#notices") == ""
        assert browser.text("header p") == "energy → Production"
        assert browser.severe() == []
        assert browser.foreign(url) == []


def test_new_outcomes_appear_by_themselves_and_a_zoom_stays(browser: Browser) -> None:
    api = busy_api()
    api.outcomes = played(2000)
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.run("""document.querySelector("#rolling .js-plotly-plot").dataset.mark = "same" """)
        browser.drag("#rolling .nsewdrag", 200)
        reach = """const axis = document.querySelector("#rolling .js-plotly-plot")._fullLayout.xaxis;
            return !axis.autorange && JSON.stringify(axis.range)"""
        zoomed = browser.wait(lambda: browser.run(reach), "the zoom")
        api.outcomes = played(3000)
        newest = """const graph = document.querySelector("#rolling .js-plotly-plot");
            return graph._fullData[0].x.at(-1) === 3000 && graph.dataset.mark === "same" """
        browser.wait(lambda: browser.run(newest), "new points in the same chart")
        assert browser.run(reach) == zoomed
        assert browser.severe() == []


def test_marks_tell_more_when_pointed_at(browser: Browser) -> None:
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.run(
            """const graph = document.querySelector("#rolling .js-plotly-plot");
            const curve = graph.data.findIndex(t => t.name === "drift alarm" && t.mode === "markers");
            window.Plotly.Fx.hover(graph, [{curveNumber: curve, pointNumber: 2}])"""
        )
        said = """return [...document.querySelectorAll("#rolling .hoverlayer text")]
            .map(t => t.textContent).join(" ")"""
        assert "ADWIN" in browser.wait(lambda: browser.run(said), "the mark's words")


def test_without_labels_the_page_says_so(browser: Browser) -> None:
    with serving(empty_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        assert "POST /learn" in browser.wait_for_text("No labels yet", "#notices")
        browser.wait_for_text("No labels yet", "#rolling")
        assert "No alarm yet" in browser.text("#alarms")
        assert "model_v1" in browser.text("#versions")
        assert browser.severe() == []


def test_a_learner_that_is_down_is_said_and_what_still_works(browser: Browser) -> None:
    api = busy_api()
    api.alive = False
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.open(url)
        notice = browser.wait_for_text("Learner down", "#notices")
        assert "Predictions go on from model_v5" in notice
        assert "until the learner is back" in browser.text("#status")
        api.alive = True
        browser.wait(lambda: browser.text("#notices") == "", "the notice gone")
        assert browser.severe() == []


def test_a_server_that_goes_and_comes_back_is_followed(browser: Browser) -> None:
    port = closed_port()
    with monitoring(f"http://127.0.0.1:{port}") as url:
        browser.open(url)
        browser.wait_for_text("Server down", "#notices")
        browser.wait_for_text("Waiting for the server", "#rolling")
        with serving(busy_api(), port):
            drawn(browser)
            browser.wait(lambda: browser.text("#notices") == "", "the notice gone")
        assert "what it said last" in browser.wait_for_text("Server down", "#notices")
        assert points(browser, "rolling") == 600
        assert browser.severe() == []


def test_the_page_follows_the_preferred_colours(browser: Browser) -> None:
    colour = """return document.querySelector("#rolling .js-plotly-plot")._fullData[2].line.color"""
    ground = "return getComputedStyle(document.body).backgroundColor"
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.prefer("dark")
        browser.open(url)
        drawn(browser)
        assert browser.run(colour) == palette.DARK.served
        dark = browser.run(ground)
        browser.prefer("light")
        browser.wait(lambda: browser.run(colour) == palette.LIGHT.served, "the light colours")
        assert browser.run(ground) != dark


def test_the_page_fits_a_phone(browser: Browser) -> None:
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.resize(390, 844)
        browser.open(url)
        drawn(browser)
        browser.wait_for_text("% better", "#status")
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        browser.keep("monitor-phone")
        browser.resize(1280, 900)


def test_a_page_that_lost_the_monitor_says_so(browser: Browser) -> None:
    with serving(busy_api()) as api_url:
        with monitoring(api_url) as url:
            browser.open(url)
            drawn(browser)
        browser.wait_for_text("does not answer", "#lost")
        browser.severe()  # the browser itself logs requests that nobody answers


AXE = """const [source, done] = arguments; new Function(source)();
  axe.run({rules: {}}).then(found => done(found.violations.map(v =>
    `${v.id}: ${v.nodes.map(n => n.target).join(" ")}`)))"""


def barriers(browser: Browser) -> list[str]:
    """What axe-core finds on the page that stands between it and some people."""
    source = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
    found: list[str] = browser.driver.execute_async_script(AXE, source)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_barrier_in_either_view(browser: Browser, theme: str) -> None:
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.prefer(theme)
        browser.open(url)
        drawn(browser)
        browser.wait_for_text("Roll back", "#versions")
        assert barriers(browser) == []
        browser.keep(f"monitor-{theme}")
        browser.driver.find_element(By.ID, "to-forecast").click()
        browser.wait_for_text("Solar", "#forecast-keys")
        named = """return document.querySelector("#forecast-upload input")?.ariaLabel"""
        browser.wait(lambda: browser.run(named), "a name for the file's field")
        assert barriers(browser) == []
        browser.prefer("light")


def test_going_back_asks_first_and_shows_the_new_version(browser: Browser) -> None:
    api = busy_api()
    api.admin_key = "secret"
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.open(url)
        browser.wait_for_text("Roll back", "#versions")
        opener = browser.driver.find_element(By.CSS_SELECTOR, '[aria-label="Roll back to model_v3"]')
        opener.send_keys(Keys.ENTER)
        browser.wait_for_text("Roll back to model_v3?", "#ask")
        assert barriers(browser) == []
        browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        browser.wait(lambda: not browser.text("#ask"), "the question gone")
        assert api.posted == []
        opener.click()
        browser.wait_for_text("Roll back to model_v3?", "#ask")
        browser.driver.find_element(By.ID, "ask-yes").click()
        browser.wait_for_text("Refused: an admin call needs the key", "#ask")
        browser.driver.find_element(By.ID, "ask-key").send_keys("secret")
        browser.driver.find_element(By.ID, "ask-yes").click()
        browser.wait_for_text("model_v6", "#status")
        assert not browser.text("#ask")
        assert "rollback" in browser.text("#versions tr.active")
        assert browser.severe() == []


def test_a_quarantined_label_is_released_by_its_button(browser: Browser) -> None:
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        browser.wait_for_text("plausible range", "#quarantine")
        browser.driver.find_element(By.CSS_SELECTOR, '[aria-label="Release label 1"]').click()
        browser.wait_for_text("Release label 1?", "#ask")
        browser.driver.find_element(By.ID, "ask-yes").click()
        browser.wait_for_text("learned as seq 3,001", "#quarantine")


def test_the_range_is_picked_and_a_zoom_is_one_into_all_charts_over_the_journal(browser: Browser) -> None:
    newest = """return document.querySelector("#truth .js-plotly-plot")._fullData[2].x[0]"""
    reach = """const axis = document.querySelector(`#${arguments[0]} .js-plotly-plot`)._fullLayout.xaxis;
        return axis.autorange ? null : axis.range.map(Math.round)"""
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.driver.find_elements(By.CSS_SELECTOR, "#range-title + .picks button")[0].click()
        browser.wait(lambda: browser.run(newest) == 2501, "the last 500 labels")
        browser.drag("#rolling .nsewdrag", 200)
        zoomed = browser.wait(lambda: browser.run(reach, "rolling"), "the zoom")
        for chart in ("truth", "coverage", "weights"):
            browser.wait(functools.partial(shows, browser, reach, chart, zoomed), f"the zoom in {chart}")


def test_a_paused_page_asks_no_more_until_it_is_resumed(browser: Browser) -> None:
    since = """const asked = performance.getEntriesByType("resource")
            .filter(e => e.name.includes("_dash-update"));
        return performance.now() - asked.at(-1).responseEnd"""
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.driver.find_element(By.ID, "pause").click()
        browser.wait_for_text("Resume", "#pause")
        browser.wait(lambda: browser.run(since) > 4000, "two ticks without a question")
        browser.driver.find_element(By.ID, "pause").click()
        browser.wait(lambda: browser.run(since) < 4000, "questions again")


def test_a_forecast_of_hours_to_come_is_drawn_and_can_be_kept(browser: Browser, tmp_path: Path) -> None:
    api = busy_api()
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.downloads(tmp_path)
        browser.open(f"{url}/forecast")
        browser.wait_for_text("Solar", "#forecast-keys")
        browser.driver.find_element(By.XPATH, "//*[@id='forecast-keys']//button[text()='Wind']").click()
        browser.driver.find_element(By.ID, "forecast-run").click()
        said = browser.wait_for_text("72 rows by model_v5", "#forecast-told")
        assert "Left to be imputed: Wind_Speed" in said
        browser.wait(lambda: points(browser, "forecast") == 72, "the forecast drawn")
        browser.keep("forecast")
        [(path, rows, _)] = api.posted
        assert path == "/predict"
        assert {row["Source"] for row in rows} == {"Wind"}
        assert [row["Start_Hour"] for row in rows[:24]] != [0] * 24
        browser.driver.find_element(By.ID, "forecast-save").click()
        kept = tmp_path / "forecast.csv"
        browser.wait(kept.exists, "the file")
        assert len(kept.read_text().splitlines()) == 73
        assert browser.severe() == []
