"""Pages: figures equal their JSON, commands parse, Python compiles, links lead somewhere, blocks are as refreshed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from adapterkit.cli.main import main
from adapterkit.errors import AdapterkitError
from tests.helpers.scripts import module

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
MARK = re.compile(r"<!-- ([\w-]+):begin -->\n(.*?)\n<!-- \1:end -->", re.DOTALL)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^]\[]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
SEPARATORS = {"|", "||", "&", "&&", ";", "(", ")"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


REFRESH = module(ROOT / "docs/refresh.py")


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return dict(module(ROOT / "benchmarks/figures.py").rendered())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_pages_figures_are_those_of_their_json(page: Path, rendered: dict[str, str]) -> None:
    for mark, text in MARK.findall(page.read_text(encoding="utf-8")):
        assert mark in rendered, f"no file of docs/figures has the figures of {mark}; benchmarks/figures.py lists them"
        assert text == rendered[mark], f"{mark} isn't what docs/figures holds: run python benchmarks/figures.py"


def test_each_file_of_figures_is_shown_on_a_page(rendered: dict[str, str]) -> None:
    shown = {mark for page in PAGES for mark, _ in MARK.findall(page.read_text(encoding="utf-8"))}
    assert set(rendered) == shown


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=name_of)
def test_a_console_block_is_as_it_was_refreshed(page: Path) -> None:
    stamps = json.loads((ROOT / "docs/figures/refreshed.json").read_text())
    if stamps.get(name_of(page), "") is not None:
        assert stamps.get(name_of(page)) == REFRESH.digest(page), f"run python docs/refresh.py {name_of(page)}"


def test_the_output_of_a_command_is_of_one_run() -> None:
    old = ["head-only  accuracy 0.90, 9.5 s", "saved      12.5 kB"]
    assert REFRESH.stable(old, ["head-only  accuracy 0.90, 8.1 s", "saved      12.6 kB"]) == old
    new = ["head-only  accuracy 0.91, 8.1 s", "saved      12.6 kB"]
    assert REFRESH.stable(old, new) == new


def shell_lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page: of console blocks those that don't end in an error, of other shell blocks all."""
    for block in blocks(page, "console"):
        for command, output in REFRESH.commands(block):
            if not any(line.startswith("Error") for line in output):
                yield command.removeprefix("$ ")
    for block in blocks(page, "sh", "bash"):
        yield from block.replace("\\\n", " ").splitlines()


def adapt_commands(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each `adapt` in a line of shell, also where a launcher starts it."""
    lexer = shlex.shlex(line.removeprefix("#SBATCH"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[list[str]] = [[]]
    for word in lexer:
        if word in SEPARATORS:
            words.append([])
        else:
            words[-1].append(word)
    for command in words:
        if "adapterkit.cli" in command:
            yield without_redirects(command[command.index("adapterkit.cli") + 1 :])
        elif "adapt" in command:
            yield without_redirects(command[command.index("adapt") + 1 :])


def without_redirects(words: list[str]) -> list[str]:
    end = next((i for i, word in enumerate(words) if word in {">", ">>", "<", ">&"}), len(words))
    return words[: end - 1] if end < len(words) and words[end - 1] == "2" else words[:end]


def parsed(words: list[str]) -> None:
    """Parse a command without running it; files that a page makes need not be there."""
    context = main.make_context("adapt", list(words))
    command: click.Command = main
    while isinstance(command, click.Group) and context._protected_args:
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(name, list(rest), parent=context)


def wrong(line: str) -> list[str]:
    """Return what is wrong with the adapt commands of a line; files and plugins that a page makes need not be there."""
    faults = []
    for words in adapt_commands(line):
        try:
            parsed(words)
        except click.exceptions.Exit:
            pass  # --help and --version
        except (click.UsageError, AdapterkitError) as error:
            faults.append(f"adapt {shlex.join(words)}: {getattr(error, 'message', error)}")
    return [
        fault for fault in faults if "does not exist" not in fault and "no strategy named 'bit-tuning'" not in fault
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_adapt_commands_of_a_page_parse(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert [fault for line in shell_lines(page) for fault in wrong(line)] == []


@pytest.mark.parametrize(
    "line", ["adapt run --stratgy lora", "adapt rnu", "true && adapt list --no 2>&1 | tail -n 1", "x=$(adapt base --y)"]
)
def test_a_wrong_command_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(wrong(line)) == 1


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_of_a_page_compiles_and_imports_what_there_is(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    for pair in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        link = "".join(pair)
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(path), f"{name_of(page)}: {link}"


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / "".join(pair)).resolve() for pair in LINK.findall(index.read_text(encoding="utf-8"))}
    missing = [name_of(page) for page in (ROOT / "docs").rglob("*.md") if page not in linked and page != index]
    assert missing == []


def test_contributing_names_every_folder_and_only_paths_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {name_of(path.parent) for path in (ROOT / "adapters").glob("*/__init__.py")}
    assert {f"`{folder}`" for folder in folders} <= set(re.findall(r"`[^`]+`", text))
    places = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", text)
    assert [p for p in places if not any((ROOT / start / p).exists() for start in ("", "adapters"))] == []
