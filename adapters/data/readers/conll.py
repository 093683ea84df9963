"""Read sentences from CoNLL columns: a token with its tag per line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import DataError
from .source import BadRow, NumberedRows, Source, has_surrogates


def read_conll(source: Source) -> NumberedRows:
    """Read columns with a token per line and a blank line after each sentence.

    In CoNLL-U (.conllu) the token is the second column and the tag, unless chosen, the fourth: the part of speech.
    """
    universal = Path(source.name).suffix.lower() == ".conllu"
    tab, width = _layout(source)
    token = 1 if universal else 0
    chosen = (3 if universal else -1) if source.options.tag_column is None else source.options.tag_column
    tag = chosen + width if chosen < 0 else chosen
    if width > 1 and (tag == token or not 0 <= tag < width):
        raise DataError(
            f"{source.name}: tag_column={chosen}, but there are {width} columns, numbered from 0, "
            f"with the token in column {token}"
        )
    for block in _blocks(source.lines(), tab, width):
        lines = [cells for _, cells in block if not (universal and re.search("[-.]", cells[0]))]
        errors = ((n, error) for n, cells in block if (error := _error(cells, tab, width, token, tag)))
        if first := next(errors, None):
            yield first[0], BadRow(source.undecoded(first[1]) or first[1])
        elif lines:
            columns = {i: [cells[i] for cells in lines] for i in range(width)}
            named = {"tokens": columns.pop(token), "tags": columns.pop(tag)}
            yield block[0][0], named | {f"column_{i}": cells for i, cells in columns.items()}


def _layout(source: Source) -> tuple[bool, int]:
    """Return whether columns are separated by tabs rather than runs of spaces, and the number of columns."""
    width = 0
    with open(source.name, encoding=source.encoding.codec, errors="surrogateescape", newline="") as lines:
        for line in lines:
            if not line.strip() or line.startswith(("# ", "-DOCSTART-")):
                continue
            if "\t" in line:
                return True, line.count("\t") + 1
            width = width if width > 1 else len(_cells(line, tab=False))
    return False, width


def _cells(line: str, tab: bool) -> list[str]:
    if tab:
        return [cell.strip(" \r\n") for cell in line.split("\t")]
    return [cell for cell in line.strip("\r\n").split(" ") if cell]


def _blocks(lines: Iterable[str], tab: bool, width: int) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield sentences as numbered lines of cells, without blank lines, -DOCSTART- and comments.

    A line of empty cells, such as a lone tab, is blank. '#' may be a token: a comment comes before a sentence's first
    token and begins with '# '.
    """
    block: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines, start=1):
        cells = _cells(line, tab)
        if not any(cell.strip() for cell in cells) or cells[0] == "-DOCSTART-":
            if block:
                yield block
            block = []
        elif block or not _is_comment(line, len(cells) == width):
            block.append((number, cells))
    if block:
        yield block


def _is_comment(line: str, could_be_token: bool) -> bool:
    return line.startswith("# ") and not (could_be_token and re.match(r"# +\S+ = ", line) is None)


def _error(cells: list[str], tab: bool, width: int, token: int, tag: int) -> str | None:
    by = "tabs" if tab else "spaces"
    if width < 2:
        return f"{len(cells)} column, and at least 2 were expected: a token and a tag, separated by a tab or spaces"
    if len(cells) != width:
        return f"{len(cells)} column{'s' * (len(cells) != 1)}, and {width} were expected, separated by {by}"
    if undecoded := next(filter(has_surrogates, cells), None):
        return undecoded
    return "empty token" if not cells[token].strip() else "empty tag" if not cells[tag].strip() else None
