"""How a report's page opens and plays in Chromium: seconds until it is loaded from its file, and how far the videos of
the open preview lie apart at each refresh of the screen. Prints the machine's load average beside them.

    python benchmarks/report_page.py REPORT [--times 6]
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from playwright.sync_api import sync_playwright

VIEWS = ((1280, 900), (390, 844))
"""A desk's and a phone's."""
VIDEOS = "[...document.querySelectorAll('.preview[open] video')]"
RECORD = f"""() => {{
  window.gaps = [];
  const [first, ...others] = {VIDEOS};
  const end = Math.min(...others.map(each => each.duration)) - 0.05;
  const look = () => {{
    if (!first.paused && first.currentTime < end)
      gaps.push(Math.max(...others.map(each => Math.abs(each.currentTime - first.currentTime))));
    requestAnimationFrame(look);
  }};
  look();
}}"""


@dataclass(frozen=True)
class Options:
    """Opening and playing of a report's page."""

    report: tyro.conf.Positional[Path]
    times: int = 6
    """Of each measurement at each width."""


def opened(browser: Any, page_path: Path, size: tuple[int, int]) -> tuple[Any, float]:
    """The page, and the seconds until it was loaded."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(120_000)
    start = time.perf_counter()
    page.goto(page_path.absolute().as_uri())
    return page, time.perf_counter() - start


def played(page: Any) -> np.ndarray:
    """Seconds between the first video of the open preview and the farthest other one, at each refresh of the screen."""
    page.locator(".preview[open] .player").focus()
    page.wait_for_function(f"{VIDEOS}.every(each => each.readyState >= 2)")
    page.evaluate(RECORD)
    page.keyboard.press("Space")
    page.wait_for_function(f"{VIDEOS}[0].ended")
    return np.array(page.evaluate("gaps"))


def main(options: Options) -> None:
    path = options.report / "index.html"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    seconds: list[float] = []
    gaps: list[np.ndarray] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        opened(browser, path, VIEWS[0])[0].close()  # Chromium's own start
        for size in VIEWS * options.times:
            page, took = opened(browser, path, size)
            seconds.append(took)
            gaps.append(played(page))
            page.close()
        browser.close()
    every = 1000 * np.concatenate(gaps)
    farthest = sorted(float(1000 * each.max()) for each in gaps)
    print(f"{path.stat().st_size / 1e6:.1f} MB, load average {os.getloadavg()[0]:.0f}, {len(seconds)} times")
    print(f"opened in {min(seconds):.2f} to {max(seconds):.2f} s, median {np.median(seconds):.2f}")
    print(
        f"apart by {np.median(every):.1f} ms in the median, by over a frame (40 ms) at {np.mean(every > 40):.1%} of "
        f"the refreshes; the most of each play: {', '.join(f'{each:.0f}' for each in farthest)} ms"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
