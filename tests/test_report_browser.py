"""The page in a real browser: phone and desk, light and dark, without network or sideways scrolling."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from report_samples import METHODS, Sample, sample

from syncdiff_data.demo import talker_clip
from syncdiff_data.media import write_video
from syncdiff_data.media.encode import FOR_BROWSERS
from syncdiff_eval.methods import GROUND_TRUTH
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.previews import Preview, PreviewVideo, choose_clips, lay_out

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
FRAME_S = 1 / 25
TALKER_FRAMES = 150
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
def talker(tmp_path_factory: pytest.TempPathFactory) -> PreviewVideo:
    """Six seconds of a generated talker, with sound."""
    path = tmp_path_factory.mktemp("talker") / "talker.mp4"
    frames, sound, opening = talker_clip(0, TALKER_FRAMES, size=96)
    write_video(path, frames, sound, crf=28, more=FOR_BROWSERS)
    return PreviewVideo(path.read_bytes(), opening, 0)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, talker: PreviewVideo) -> Path:
    """Every section the page can have."""
    made = sample(40, reencoded=True, published="LRS2", bit_rates=(400_000, 900_000))
    return _written(made, tmp_path_factory.mktemp("full"), _previews(made, talker, 2))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, talker: PreviewVideo) -> Path:
    """Every section, and few rows: the rules of axe-core look at each element."""
    made = sample(8, METHODS[1:3], reencoded=True, published="LRS3", failures=1)
    return _written(made, tmp_path_factory.mktemp("small"), _previews(made, talker, 2))


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, one method, nothing to compare with but a frozen frame."""
    return _written(sample(2, METHODS[:1], failures=0), tmp_path_factory.mktemp("least"))


ODD_NAMES = (
    "-59cJcC2HJY_NA_111", "Zo\N{LATIN SMALL LETTER E WITH ACUTE} <b>x</b> & \"q\" 's' #5%", "x" * 90, "-",
    "</script><script>odd = 1</script>", "{{ 7 * 7 }} `code` |pipe|", "\u202eright to left", "\u65e5\u672c\u8a9e",
)  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, talker: PreviewVideo) -> Path:
    """Clips whose names are long, markup, or in other scripts."""
    made = sample(len(ODD_NAMES), METHODS[1:3], failures=1)
    named = dict(zip(dict.fromkeys(made.per_clip["clip"].to_pylist()), ODD_NAMES))
    clips = pa.array([named[clip] for clip in made.per_clip["clip"].to_pylist()])
    at = made.per_clip.schema.get_field_index("clip")
    made = replace(made, per_clip=made.per_clip.set_column(at, "clip", clips))
    return _written(made, tmp_path_factory.mktemp("odd"), _previews(made, talker, len(ODD_NAMES)))


def _written(made: Sample, folder: Path, previews: Sequence[Preview] = ()) -> Path:
    path = folder / "index.html"
    path.write_text(render_page(made.results, made.per_clip, made.curve, previews), encoding="utf-8")
    return path


def _previews(made: Sample, talker: PreviewVideo, number: int) -> list[Preview]:
    """Every video is the talker, but for one that could not be made."""
    chosen = choose_clips(made.results, made.per_clip, number)
    names = [row.name for row in made.results.methods]
    videos: dict[tuple[str, str], PreviewVideo | str] = {
        (name, clip.clip): talker for name in names for clip in chosen
    }
    videos[names[-1], chosen[0].clip] = "unreadable: the file breaks off at byte 9"
    assert names[0] == GROUND_TRUTH.name
    return lay_out(made.results, made.per_clip, chosen, videos, made.curve)


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


@pytest.mark.parametrize("width", [1280, 390])
def test_odd_names_are_text_and_fit(browser: Any, odd: Path, width: int) -> None:
    view = look(browser, odd, width, "light")
    assert view.complaints == []
    assert view.page.evaluate("typeof odd") == "undefined"
    assert view.page.evaluate("document.documentElement.scrollWidth") == width
    view.page.locator("#clip-more").click()
    names = view.page.locator("#clip-rows tbody a").all_text_contents()
    assert set(names) == set(ODD_NAMES)
    view.page.locator("#clip-search").fill("ZOE\N{COMBINING ACUTE ACCENT} <b>")
    assert view.page.locator("#clip-rows tbody tr").count() == 4
    view.page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_accessible(browser: Any, small: Path, width: int, scheme: str) -> None:
    """Contrast, names, headings, languages: axe-core's rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = look(browser, small, width, scheme)
    found = axe.run(view.page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    for table in view.page.locator("table").all():
        assert table.locator("thead th[scope=col]").count() >= 2
    view.page.close()


def test_a_report_without_optional_parts_has_no_empty_sections(browser: Any, least: Path) -> None:
    page = look(browser, least, 390, "light").page
    sections = page.locator("h2[id]").evaluate_all("all => all.map(each => each.id)")
    assert sections == ["warnings", "scores", "distributions", "clips", "settings"]
    links = page.locator("nav a").evaluate_all("all => all.map(each => each.hash.slice(1))")
    assert links == sections[1:]
    page.close()


@pytest.fixture
def tables(browser: Any, full: Path) -> Iterator[Any]:
    view = look(browser, full, 1280, "light")
    yield view.page
    assert view.complaints == []
    view.page.close()


def names(page: Any, place: str) -> list[str]:
    found: list[str] = page.locator(place).evaluate_all(
        "all => all.filter(each => each.checkVisibility()).map(each => each.dataset.name)"
    )
    return found


def drawn(page: Any) -> list[str]:
    """Methods of the first plot from top to bottom."""
    found: list[str] = page.evaluate(
        """[...document.querySelector('.plots svg').querySelectorAll('g.row')]
           .filter(each => !each.hasAttribute('hidden'))
           .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
           .map(each => each.dataset.name)"""
    )
    return found


OVERVIEW, SYNC = (f"table[aria-label='{title}'] tbody[data-sortable] tr" for title in ("Overview", "Sync"))


def test_a_heading_sorts_the_methods_of_all_tables_and_plots(tables: Any) -> None:
    given = names(tables, OVERVIEW)
    head = tables.locator("table[aria-label=Overview] th[data-metric=lmd_mouth]")
    head.locator("button").click()  # lower is better: the best comes first
    values = tables.locator(f"{OVERVIEW} td[data-metric=lmd_mouth]").evaluate_all(
        "all => all.map(each => Number(each.dataset.value))"
    )
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    order = names(tables, OVERVIEW)
    assert order == names(tables, SYNC) == drawn(tables)
    assert tables.locator("#sort-by").input_value() == "lmd_mouth"
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert names(tables, OVERVIEW) == order[::-1]
    tables.locator("#sort-by").select_option("")
    assert names(tables, OVERVIEW) == given == drawn(tables)
    assert tables.locator("th[aria-sort]").count() == 1, "the table of clips alone"


def test_types_are_shown_and_hidden_everywhere(tables: Any) -> None:
    tables.locator("#clip-search").fill("clip000")
    everything = names(tables, OVERVIEW)
    rows = tables.locator("#clip-rows tbody tr").count()
    tables.locator("input[value=gan]").uncheck()
    shown = names(tables, OVERVIEW)
    assert shown == [name for name in everything if name not in ("wav2lip", "softgan")]
    assert drawn(tables) == names(tables, SYNC) == shown
    assert tables.locator("#clip-rows tbody tr").count() == rows - 2
    assert not tables.locator(".scatters g[data-name=wav2lip]").first.is_visible()
    tables.locator("input[value=gan]").check()
    assert names(tables, OVERVIEW) == everything == drawn(tables)


def test_all_clips_are_searched_sorted_and_shown_by_pages(tables: Any) -> None:
    rows, count = tables.locator("#clip-rows tbody tr"), tables.locator("#clip-count")
    assert (rows.count(), count.text_content()) == (25, "25 of 280 rows")
    tables.locator("#clip-more").click()
    assert rows.count() == 50
    tables.locator("#clip-search").fill("LATENT  unread")
    assert count.text_content() == "2 rows"
    assert not tables.locator("#clip-more").is_visible()
    tables.locator("#clip-search").fill("latent")
    tables.locator("#clip-columns").select_option(label="Picture")
    tables.locator("#clip-rows th button", has_text="PSNR face").click()
    values = rows.evaluate_all("all => all.map(each => each.cells[2].textContent)")
    numbers = [float(value) for value in values]
    assert numbers == sorted(numbers), "the worst come first"
    tables.locator("#clip-rows th button", has_text="PSNR face").click()
    assert float(rows.first.locator("td").nth(1).text_content()) == max(
        float(value) for value in rows.evaluate_all("all => all.map(each => each.cells[2].textContent)")
    )
    tables.locator("#clip-search").fill("no such clip")
    assert (rows.count(), count.text_content()) == (0, "0 rows")


def test_tab_reaches_every_control_in_the_order_of_the_page(browser: Any, small: Path) -> None:
    view = look(browser, small, 1280, "light")
    page = view.page
    wanted = page.evaluate(
        """window.wanted = [...document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')]
           .filter(each => each.checkVisibility()); window.wanted.length"""
    )
    reached = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("window.wanted.indexOf(document.activeElement)"))
    assert reached == list(range(wanted))
    page.keyboard.press("Shift+Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.close()


SHOWN = "[...document.querySelectorAll('.preview[open] video')]"
READY = f"{SHOWN}.length && {SHOWN}.every(each => each.readyState >= 2 && !each.seeking)"
FRAMES = f"{SHOWN}.map(each => Math.floor(each.currentTime * 25))"
DRIFT = f"Math.max(...{SHOWN}.map(each => Math.abs(each.currentTime - {SHOWN}[0].currentTime)))"


@pytest.fixture
def player(browser: Any, small: Path) -> Iterator[Any]:
    """A page whose first preview is loaded and has the keyboard."""
    view = look(browser, small, 1280, "light")
    page = view.page
    page.evaluate("document.querySelector('.preview').open = true")
    page.wait_for_function(READY)
    page.locator(".preview[open] .player").focus()
    yield page
    assert view.complaints == []
    page.close()


def test_videos_play_in_step_with_the_sound_and_come_back_into_step(player: Any) -> None:
    player.keyboard.press("Space")
    player.wait_for_function(f"{SHOWN}[0].currentTime > 0.2")
    player.evaluate(f"{SHOWN}[1].currentTime += 0.4")
    assert player.evaluate(f"{SHOWN}.map(each => each.muted)") == [False, True]
    player.wait_for_function(f"{SHOWN}[0].currentTime > 2 && {DRIFT} < {FRAME_S}")
    assert player.evaluate(f"{SHOWN}.map(each => each.paused)") == [False, False]
    assert player.locator(".preview[open] button").text_content() == "Pause"
    for _ in range(3):  # paused, played and paused again before it starts
        player.keyboard.press("Space")
    assert player.evaluate(f"{SHOWN}.map(each => each.paused)") == [True, True]


def test_arrows_step_all_videos_by_a_frame_and_the_slider_scrubs(player: Any) -> None:
    output, slider = player.locator(".preview[open] output"), player.locator(".preview[open] input")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        player.keyboard.press(key)
        player.wait_for_function(READY)
        assert player.evaluate(FRAMES) == [frame, frame]
    slider.fill("100")
    player.wait_for_function(READY)
    assert player.evaluate(FRAMES) == [100, 100]
    assert output.text_content() == slider.get_attribute("aria-valuetext") == "4.00 s, frame 101 of 150"
    cursor = player.evaluate(
        "getComputedStyle(document.querySelector('.preview[open] .player')).getPropertyValue('--at')"
    )
    assert float(cursor) == pytest.approx(100.5 / TALKER_FRAMES)
    slider.press("ArrowRight")
    player.wait_for_function(READY)
    assert player.evaluate(FRAMES) == [101, 101]


@pytest.mark.parametrize("table", ["#clip-rows", ".worst"])
def test_a_row_of_the_clips_leads_to_its_preview(player: Any, table: str) -> None:
    links = player.locator(f"{table} a")
    assert links.count() >= 2
    link = player.locator(f"{table} a[href='#preview-1']").first
    clip = link.text_content()
    link.click()
    player.wait_for_function(f"document.querySelector('#preview-1').open && {READY}")
    assert clip in player.locator(".preview[open] summary").text_content()
    assert player.evaluate("document.activeElement.ariaLabel") == f"Videos of {clip}"
    assert player.evaluate("document.querySelectorAll('.preview:not([open]) video[src]').length") == 0


def test_previews_are_ordered_by_any_metric(player: Any) -> None:
    summaries = player.locator(".preview summary small")
    before = summaries.all_text_contents()
    assert before[0].startswith("Worst: Expert confidence")
    player.locator("#preview-by").select_option("lmd_mouth")
    after = summaries.all_text_contents()
    assert all(": LMD mouth " in text for text in after)
    levels = [float(text.split()[-1]) for text in after]
    assert levels == sorted(levels, reverse=True), "the worst comes first"
    values = player.locator(".preview").first.locator("figure .value").all_text_contents()
    assert values[0] == ""
    assert re.fullmatch(r"\d\.\d\d", values[1])
    player.wait_for_function(READY)
    player.locator("#preview-by").select_option("expert_confidence")
    assert summaries.all_text_contents() == before
