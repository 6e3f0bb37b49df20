"""A picture of a rendered page, in Debian's chromium through selenium; the picture of the README is made with

    BOARD=reports/showcase/shapes10
    python tests/benchmarks/screenshot.py $BOARD/index.html $BOARD/leaderboard.png --width 1280 --height 1060

Options: --theme dark, --full for the whole page, --pdf to print it (OUT ends in .pdf then), --run JAVASCRIPT first.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str:
    """What a browser needs and is not installed here; "" where everything is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install 'nsbench[test]'"
    if not shutil.which("chromedriver"):
        return "chromedriver is not installed: apt-get install chromium-driver"
    return "" if any(map(shutil.which, CHROMIUM)) else "chromium is not installed: apt-get install chromium"


@contextmanager
def browser(width: int = 1280, height: int = 900, *, dark: bool = False) -> Iterator[Any]:
    """A headless chromium with a window of this size, in a profile of its own; it logs its console."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, CHROMIUM)))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
            )
            # a headless window may not have the focus, and without it a page hears of no change of focus
            driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
            yield driver
        finally:
            driver.quit()


def picture(driver: Any, out: Path, full: bool) -> None:
    found = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": full} | ({"clip": _whole(driver)} if full else {})
    )
    out.write_bytes(base64.b64decode(found["data"]))


def _whole(driver: Any) -> dict[str, float]:
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


def printed(driver: Any, out: Path) -> None:
    found = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    out.write_bytes(base64.b64decode(found["data"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--pdf", action="store_true")
    parser.add_argument("--run", default="", help="JavaScript to run in the page beforehand")
    options = parser.parse_args()
    if why := missing():
        parser.error(why)
    with browser(options.width, options.height, dark=options.theme == "dark") as driver:
        driver.get(options.page.resolve().as_uri())
        if options.run:
            driver.execute_script(options.run)
        if options.pdf:
            printed(driver, options.out)
        else:
            picture(driver, options.out, options.full)
    print(options.out)


if __name__ == "__main__":
    main()
