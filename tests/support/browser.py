"""A real browser for tests: ``pytest_plugins = ["tests.support.browser"]`` gives the ``browser`` fixture.

Chromium and chromedriver must be on the machine (Debian: ``chromium``, ``chromium-driver``); without
them the tests that want a browser are skipped, which the skip's reason says.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"
SECONDS = 120


class Browser:
    """Chromium with the few things tests ask of it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open a page; its console log starts empty, and the page before it has stopped asking its server."""
        self.driver.get("about:blank")
        self.severe()
        self.driver.get(url)

    def text(self, selector: str = "body") -> str:
        """The visible text of the first element that fits; empty when there is none."""
        elements = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return str(elements[0].text) if elements else ""

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], saying: str, seconds: float = SECONDS) -> Any:
        """Wait until the condition holds and return its value; fail telling what was awaited."""
        # a callback may redraw an element between its being found and its being read: it is looked for again
        waiting = WebDriverWait(
            self.driver, seconds, poll_frequency=0.1, ignored_exceptions=(StaleElementReferenceException,)
        )
        return waiting.until(lambda _: condition(), f"waited {seconds:g} s for {saying}; page: {self.text()}")

    def wait_for_text(self, wanted: str, selector: str = "body") -> str:
        """Wait until an element shows a text."""
        shown: str = self.wait(
            lambda: (shown := self.text(selector)) and wanted in shown and shown, f"{wanted!r} in {selector}"
        )
        return shown

    def drag(self, selector: str, pixels: int) -> None:
        """Press on the middle of an element, move to the right and let go."""
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        actions = ActionChains(self.driver).move_to_element(element).click_and_hold()
        actions.move_by_offset(pixels // 2, 0).move_by_offset(pixels - pixels // 2, 0).release().perform()

    def resize(self, width: int, height: int) -> None:
        """Make the page's visible part this large, as a screen of that size would."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, theme: str) -> None:
        """Prefer ``light`` or ``dark`` colours."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def keep(self, name: str) -> None:
        """Keep the whole page as ``artifacts/<name>.png``, for people to look at."""
        ARTIFACTS.mkdir(exist_ok=True)
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (ARTIFACTS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def downloads(self, folder: Path) -> None:
        """Put what is downloaded into this folder."""
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", settings)

    def severe(self) -> list[str]:
        """Console errors since the page was opened, or since the last call."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # selenium has not annotated it
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def foreign(self, origin: str) -> list[str]:
        """What the page loaded from anywhere but ``origin`` (inline data aside)."""
        loaded = self.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
        return [address for address in loaded if not address.startswith((origin, "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("no browser: install chromium and chromium-driver to run this test")
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_script_timeout(SECONDS)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
