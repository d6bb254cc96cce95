"""The page in a real browser: phone and desk, light and dark, without network or sideways scrolling."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from report_samples import METHODS, sample

from syncdiff_eval.report.page import render_page

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"))
    ),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium on the PATH (apt-get install chromium)"
)
QUIET = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE_MS = 120_000
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root with its sandbox on
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*QUIET, *sandbox], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every section the page can have."""
    made = sample(40, reencoded=True, published="LRS2", bit_rates=(400_000, 900_000))
    return _written(made, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every section, and few rows: the rules of axe-core look at each element."""
    made = sample(8, METHODS[1:3], reencoded=True, published="LRS3", failures=1)
    return _written(made, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, one method, nothing to compare with but a frozen frame."""
    return _written(sample(2, METHODS[:1], failures=0), tmp_path_factory.mktemp("least"))


def _written(made: Any, folder: Path) -> Path:
    path = folder / "index.html"
    path.write_text(render_page(made.results, made.per_clip, made.curve), encoding="utf-8")
    return path


@dataclass
class View:
    """An open page and what it did while it opened."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def look(browser: Any, path: Path, width: int, scheme: str) -> View:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    view = View(page)
    page.on("request", lambda request: view.requests.append(request.url))
    page.on("pageerror", lambda error: view.complaints.append(str(error)))
    page.on("console", lambda message: view.complaints.append(message.text))
    page.goto(path.as_uri())
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    return view


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_everything_is_in_the_page_and_fits(browser: Any, full: Path, width: int, scheme: str) -> None:
    view = look(browser, full, width, scheme)
    page = view.page
    assert view.requests == [full.as_uri()]
    assert view.complaints == []
    scrolls, shows = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scrolls <= shows == width
    outside = page.evaluate(
        """[...document.querySelectorAll('main :is(td, tbody th, p, svg, figcaption, dd)')]
           .filter(each => !each.closest('.wide') && each.getBoundingClientRect().right > innerWidth)
           .map(each => each.textContent)"""
    )
    assert outside == []
    light = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) > 127")
    assert light == (scheme == "light")
    assert page.locator("figure svg").count() >= 10
    assert page.locator("svg.spark").count() >= 10
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_accessible(browser: Any, small: Path, width: int, scheme: str) -> None:
    """Contrast, names, headings, languages: axe-core's rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = look(browser, small, width, scheme)
    found = axe.run(view.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    for table in view.page.locator("table").all():
        assert table.locator("thead th[scope=col]").count() >= 2
    view.page.close()


def test_a_report_without_optional_parts_has_no_empty_sections(browser: Any, least: Path) -> None:
    page = look(browser, least, 390, "light").page
    sections = page.locator("h2[id]").evaluate_all("all => all.map(each => each.id)")
    assert sections == ["warnings", "scores", "clips", "settings"]
    links = page.locator("nav a").evaluate_all("all => all.map(each => each.hash.slice(1))")
    assert links == sections[1:]
    page.close()
