"""Chromium without a window, driven by selenium."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def start(folder: Path):
    """A browser with a profile of its own in `folder`; skips where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (apt-get install chromium chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    found.set_script_timeout(30)
    return found


def until(browser, script: str):
    """What a script comes to, once that is something."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 30, 0.02).until(lambda _: browser.execute_script(f"return {script}"))
