"""The site's source: every public name, command, strategy and task has a place, and every link leads somewhere."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import click
import pytest

import adapterkit
from adapterkit.cli.main import COMMANDS, main
from adapterkit.discovery import ADAPTERKIT, installed
from adapterkit.options import options
from adapterkit.tasks import TASKS
from tests.helpers.scripts import module

ROOT = Path(__file__).parent.parent
STAGE = module(ROOT / "docs/site/stage.py")
REFERENCE = STAGE.reference
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?)(?: +\{[^}]*\})?$", re.MULTILINE)
API_NAME = re.compile(r"^::: (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return dict(STAGE.staged())


def anchors(text: str) -> set[str]:
    """Return the anchors that the site gives to a page's headings and to the names of the API on it."""
    titles = HEADING.findall(STAGE.FENCE.sub("", text))
    named = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    return {*named, *API_NAME.findall(text)}


def faults(pages: dict[str, str], files: set[str]) -> list[str]:
    """Return the links of pages that lead nowhere."""
    wrong = []
    for page, text in pages.items():
        for pair in LINK.findall(re.sub(r"`[^`]*`", "", STAGE.FENCE.sub("", text))):
            link = "".join(pair)
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
            if path not in pages and path not in files:
                wrong.append(f"{page}: {link}")
            elif anchor and anchor not in anchors(pages.get(path, "")):
                wrong.append(f"{page}: {link} (no such anchor)")
    return wrong


def test_every_link_and_anchor_leads_somewhere(pages: dict[str, str]) -> None:
    files = {STAGE.place(path) for path in STAGE.known()}
    assert faults(pages, files) == []


def test_a_broken_link_is_noticed() -> None:
    pages = {"a/b.md": "# One two\n[x](c.md) [y](#one-two) [z](#three) [w](../d.md#e)", "d.md": "# E\n"}
    assert faults(pages, set()) == ["a/b.md: c.md", "a/b.md: #three (no such anchor)"]


def test_every_public_name_is_in_the_reference(pages: dict[str, str]) -> None:
    documented = {name.removeprefix("adapterkit.") for text in pages.values() for name in API_NAME.findall(text)}
    assert set(adapterkit.__all__) <= documented
    assert {name for names in REFERENCE.API.values() for name in names} == set(adapterkit.__all__)


def test_every_command_and_flag_is_in_the_reference(pages: dict[str, str]) -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        text = pages[f"reference/commands/{name}.md"]
        for words, one in REFERENCE.walk(command, ("adapt", name)):
            assert f"# {' '.join(words)}\n" in text
            flags = [flag for param in one.params if isinstance(param, click.Option) for flag in param.opts]
            assert [flag for flag in flags if flag not in text] == []


def test_every_strategy_and_task_has_a_page_with_its_options(pages: dict[str, str]) -> None:
    ours = {plugin.name for plugin in installed() if plugin.distribution == ADAPTERKIT}
    assert REFERENCE.strategies().keys() == ours
    for kind, classes in (("strategy", REFERENCE.strategies()), ("task", TASKS)):
        for name, cls in classes.items():
            page = pages[f"reference/{kind}/{name}.md"]
            assert [option.flag for option in options(cls).values() if f"`{option.flag}`" not in page] == []
            assert f"({name}.md)" in pages[f"reference/{kind}/index.md"]


def test_every_page_is_in_the_menu(pages: dict[str, str]) -> None:
    listed = re.findall(r"[\w./-]+\.md", str(STAGE.menu(pages)))
    inside = [page for page in pages if page.count("/") > 1 and page.startswith("examples/")]
    assert set(pages) - set(listed) - set(inside) == set()
    assert len(listed) == len(set(listed))


def test_a_versions_menu_begins_with_the_newest(tmp_path: Path) -> None:
    for name in ("0.9.0", "0.10.0"):
        (tmp_path / name).mkdir()
    STAGE.write_versions(tmp_path)
    assert (tmp_path / "versions.json").read_text().index("0.10.0") < (tmp_path / "versions.json").read_text().index(
        "0.9"
    )
    assert "url=0.10.0/" in (tmp_path / "index.html").read_text()
