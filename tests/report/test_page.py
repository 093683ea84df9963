"""The page in a real browser: nothing is loaded, texts are texts, plots have marks, sorting and filtering work."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from adapterkit.errors import OptionError
from adapterkit.report.page import write_page
from adapterkit.report.plots import pareto, plots_of
from adapterkit.report.results import read_results
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.results import HTML, results

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, _ = write_page(results(), tmp_path_factory.mktemp("page") / "page.html")
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.requests.clear()
    browser.messages.clear()
    browser.look()
    browser.open(page)
    return browser


@needs_chromium
def test_nothing_is_loaded_and_the_console_is_empty(opened: Browser, page: Path) -> None:
    opened.run("document.getElementById('theme').click()")
    assert [url for url in opened.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert opened.messages == []


@needs_chromium
def test_html_in_a_row_is_shown_as_text(opened: Browser) -> None:
    assert opened.run("document.title") == "Which strategy for <i>rows</i>?"
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.querySelectorAll('script').length") == 1
    assert HTML in opened.run("document.querySelector('#rows tbody td.text').textContent")
    assert opened.run("document.querySelectorAll('main b, main i').length") == 0


@pytest.mark.slow
@needs_chromium
def test_each_plot_has_marks_that_are_named(opened: Browser) -> None:
    marks = opened.run(
        "Array.from(document.querySelectorAll('svg')).map(s => s.querySelectorAll('.mark title').length)"
    )
    assert len(marks) == sum(map(len, plots_of(results()).values()))
    assert min(marks) > 0
    labels = opened.run("Array.from(document.querySelectorAll('svg')).map(s => s.getAttribute('aria-label') || '')")
    assert all(len(label) > 20 for label in labels)


@pytest.mark.slow
@needs_chromium
def test_names_in_a_plot_are_within_it_and_apart_where_points_are_close(browser: Browser, tmp_path: Path) -> None:
    close = results(candidates=5)
    for k, candidate in enumerate(close.candidates[:5]):
        spread = replace(candidate.costs, bytes=10 if k == 0 else 10_000_000 + k, seconds=100.0 + k, rate=10.0 + k / 9)
        close.candidates[k] = replace(candidate, costs=spread)
    browser.look()
    browser.open(write_page(close, tmp_path / "page.html")[0])
    boxes = """Array.from(document.querySelectorAll('svg')).slice(0, 3).map(plot => {
        const names = Array.from(plot.querySelectorAll('text')).filter(t => t.textContent.startsWith('strategy-'));
        return [plot.querySelector('#patch_2'), ...names].map(e => e.getBoundingClientRect());
    }).map(boxes => boxes.map(b => [b.left, b.top, b.right, b.bottom]))"""
    for edge, *names in browser.run(boxes):
        assert len(names) == 5
        assert all(edge[0] <= b[0] and edge[1] <= b[1] and b[2] <= edge[2] and b[3] <= edge[3] for b in names)
        for a, b in itertools.combinations(names, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] + 3 or b[3] <= a[1] + 3, (a, b)  # 3: below a line


@needs_chromium
def test_a_click_on_a_heading_sorts_the_table_and_another_turns_it(opened: Browser) -> None:
    column = "Array.from(document.querySelectorAll('#candidates tbody tr')).map(r => r.cells[0].textContent.trim())"
    click = "document.querySelectorAll('#candidates th button')[4].click()"
    before = opened.run(column)
    opened.run(click)
    down = opened.run(column)
    assert down[:4] == sorted(before[:4], reverse=True)
    assert down[-1].startswith("broken")
    opened.run(click)
    assert opened.run(column)[:4] == down[3::-1]
    assert opened.run("document.querySelectorAll('#candidates th')[4].getAttribute('aria-sort')") == "ascending"


@needs_chromium
def test_rows_are_filtered_by_text_and_by_who_is_wrong(opened: Browser) -> None:
    shown = "Array.from(document.querySelectorAll('#rows tbody tr')).filter(r => r.offsetParent !== null).length"
    assert opened.run(shown) == 40
    opened.run("search.value = 'ROW 17 '; search.dispatchEvent(new Event('input'))")
    assert opened.run(shown) == 1
    assert opened.run("document.getElementById('count').textContent") == "1 rows"
    opened.run("search.value = ''; which.value = 'wrong:strategy-0'; which.dispatchEvent(new Event('change'))")
    wrong = sum(row.answers[0].right is False for row in results().rows)  # type: ignore[union-attr]
    assert opened.run(shown) == wrong


@needs_chromium
def test_the_threshold_moves(opened: Browser) -> None:
    opened.run("var t = document.getElementById('t1'); t.value = 3; t.dispatchEvent(new Event('input'))")
    assert opened.run("document.getElementById('t1-value').textContent").startswith("threshold 0.20: precision 1.000")


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_the_window_and_text_is_readable(opened: Browser, width: int, dark: bool, page: Path) -> None:
    opened.look(width=width, dark=dark)
    assert opened.run("document.documentElement.scrollWidth") <= width
    colours = opened.run("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    fg, bg = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (fg > bg) == dark
    assert abs(fg - bg) > 500


@needs_chromium
def test_every_control_is_reached_by_the_keyboard_and_has_a_name(opened: Browser) -> None:
    named = """Array.from(document.querySelectorAll('button, input, select, [role=region]')).filter(
        e => !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length))).length"""
    assert opened.run(named) == 0
    assert opened.run("document.querySelectorAll('.scroll:not([tabindex=\"0\"])').length") == 0
    assert opened.run("document.querySelector('html').lang") == "en"
    heads = opened.run("Array.from(document.querySelectorAll('table th')).filter(h => !h.getAttribute('scope')).length")
    assert heads == 0


@pytest.mark.slow
@needs_chromium
def test_a_page_of_many_rows_labels_and_strategies_is_small_and_opens_quickly(browser: Browser, tmp_path: Path) -> None:
    """The rows of a page are a sample: 400 of 10,000."""
    path, data = write_page(results(rows=400, labels=150, candidates=12, measured=10_000), tmp_path / "large.html")
    assert path.stat().st_size < 3_000_000
    assert read_results(data).measured == 10_000
    assert browser.open(path) < 2 * 3  # two seconds on a machine that does nothing else
    assert "A sample: 400 of 10,000 rows" in browser.run("document.getElementById('examples').textContent")


def test_a_page_without_rows_or_tables_is_made(tmp_path: Path) -> None:
    empty = results(rows=2, labels=2, candidates=1)
    empty.rows, empty.labels, empty.best = [], [], ""
    for candidate in empty.candidates:
        candidate.tables, candidate.history, candidate.trials = {}, [], []
    write_page(empty, tmp_path / "page.html")
    with pytest.raises(OptionError, match=r"which ends in \.html"):
        write_page(empty, tmp_path / "page.pdf")


@pytest.mark.slow
def test_the_front_has_what_no_other_beats_in_cost_and_quality() -> None:
    assert pareto([(1, 0.5), (2, 0.4), (3, 0.9), (3, 0.8), (9, 0.9)]) == [0, 2]
    assert pareto([(1, 0.5), (2, 0.4), (3, 0.9)], lower=True) == [0, 1]
