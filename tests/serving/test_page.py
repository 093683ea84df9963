"""The server's page in a real browser: answers of several tasks, a streamed text, a csv, errors, and axe-core."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.server import MASK, ROWS, Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
AXE = os.environ.get("AXE", "")
CSV = 'id,text\\n1,"a fine, great film"\\n2,rude staff'


@pytest.fixture(scope="module")
def page(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.look()
        browser.open_url(f"{server.url}/")
        wait(browser, "document.querySelectorAll('#adapters input').length > 0")
        yield browser


def wait(page: Browser, condition: str) -> None:
    until = time.monotonic() + 30
    while not page.run(condition):
        assert time.monotonic() < until, condition
        time.sleep(0.05)


def answered(page: Browser, adapters: list[str], text: str) -> str:
    """Choose adapters, send a text by its form, and return what the page then says."""
    page.run(
        "{for (const box of document.querySelectorAll('#adapters input')) "
        f"box.checked = {json.dumps(adapters)}.includes(box.value);"
        f"$('text').value = {json.dumps(text)}; document.querySelector('button.main').click();}}"
    )
    wait(page, "!document.querySelector('button.main').disabled")
    shown: str = page.run("$('answers').innerText")
    return shown


def test_answers_of_several_tasks_as_people_read_them(server: Running, page: Browser) -> None:
    html = "<b>a fine</b> film"
    shown = answered(page, ["mood", "entities", "stars"], html)
    best = server.send("/models/mood", {"inputs": html})[1][0][0]
    assert html in shown
    assert f"{100 * best['score']:.1f} %" in shown
    spans = server.send("/models/entities", {"inputs": html})[1]
    assert page.run("document.querySelectorAll('#answers mark').length") == len(spans)
    assert (
        page.run("document.querySelectorAll('#answers b').length") == 4
    )  # the names of labels, and none of the text's
    assert server.url in page.run("$('curl').textContent")
    masked = f"a {MASK} film"
    word = server.send("/models/masks", {"inputs": masked})[1][0]["token_str"]
    assert word in answered(page, ["masks"], masked)
    assert page.run("$('past').hidden") is False


def test_a_text_streams_in_and_an_error_is_shown(server: Running, page: Browser) -> None:
    text = server.send("/models/story", {"inputs": ROWS["story"]})[1][0]["generated_text"]
    assert " ".join(text.split()) in " ".join(answered(page, ["story"], ROWS["story"]).split())
    assert "mask" in answered(page, ["masks", "mood"], "nothing is left out")
    assert page.run("document.querySelectorAll('#answers .error').length") == 1
    assert "Choose an adapter" in answered(page, [], "a")


def test_a_csv_is_read_and_the_search_hides_other_adapters(page: Browser) -> None:
    page.run(f"read(new File(['{CSV}'], 'rows.csv'))")
    assert page.run("$('text').value") == "a fine, great film\nrude staff"
    visible = "[...document.querySelectorAll('#adapters label')].filter(l => l.offsetParent).length"
    answered(page, [], "a")
    page.run("$('search').value = 'mood'; filter()")
    assert page.run(visible) == 1
    page.run("$('search').value = ''; filter()")
    assert page.run(visible) == len(ROWS)


@pytest.mark.skipif(not AXE, reason="AXE names no axe.min.js")
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (400, False)])
def test_axe_finds_nothing_serious(page: Browser, width: int, dark: bool) -> None:
    answered(page, ["mood", "entities"], "a fine film")
    page.look(width=width, dark=dark)
    page.run(Path(AXE).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.run("axe.run().then(r => r.violations.map(v => ({id: v.id, impact: v.impact})))")
    assert [v for v in found if v["impact"] in ("serious", "critical")] == []
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_asks_its_server_alone(server: Running, page: Browser) -> None:
    assert {url.partition("/v1")[0].rstrip("/") for url in page.requests if not url.startswith("data:")} == {server.url}
    assert page.messages == []
