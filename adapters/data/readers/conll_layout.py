"""Infer the layout of CoNLL columns: how they are separated, and which hold the words, tags and numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

SAMPLE = 1 << 18
"""The characters from which a layout is inferred."""
TAG = re.compile(r"O|[BIESLUMW](-\S+)?")
"""A tag of a scheme such as IOB2 or BIOES."""
_BRACKETS = re.compile(r"(\([^()*\s]+)*\*?\)*")
_UNIVERSAL = frozenset(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _".split()  # noqa: SIM905
)
DOCUMENT = ("#begin document", "#end document")
_NOT_A_TAG = re.compile(r"\[.*\]|.*://.*")


@dataclass(frozen=True)
class Layout:
    """The columns of a file, numbered from 0."""

    tab: bool  # separated by tabs rather than runs of spaces
    width: int
    word: int = 0
    tag: int = -1
    numbered: bool = False  # the first column numbers the words of a sentence
    universal: bool = False  # CoNLL-U: ranges of words and empty nodes are no words
    brackets: bool = False  # tags are (PER*, * and *), as in CoNLL-2012
    ragged: bool = False  # further columns may follow, in a number that differs from sentence to sentence
    scheme: bool = False  # all tags are B-, I-, O and the like

    def cells(self, line: str) -> list[str]:
        """Cut a line into its cells."""
        return cut(line, self.tab)

    def is_comment(self, line: str, cells: Sequence[str]) -> bool:
        """Return whether a line before a sentence's first word is no word.

        '#' may be a word: a line that could be one is a comment only where its tag can't be one.
        """
        if not line.startswith("#"):
            return False
        if line.startswith(DOCUMENT) or self.numbered:
            return True
        if line[1:2] not in (" ", "\t", "", "\r", "\n"):
            return False
        if len(cells) != self.width:
            return True
        tag = cells[self.tag]
        no_tag = not TAG.fullmatch(tag) if self.scheme else _NOT_A_TAG.fullmatch(tag)
        return bool(no_tag) or re.match(r"# +\S+ = ", line) is not None

    def describe(self) -> str:
        """Return where words and tags are, in words."""
        form = "CoNLL-U: " if self.universal else ""
        spans = ", brackets read as B-, I- and O" if self.brackets else ""
        return f"{form}words in column {self.word}, tags in column {self.tag} of {self.width}, from 0{spans}"


def cut(line: str, tab: bool) -> list[str]:
    """Cut a line into cells at tabs or at runs of spaces."""
    if tab:
        return [cell.strip(" \r\n") for cell in line.split("\t")]
    return [cell for cell in line.strip("\r\n").split(" ") if cell]


def is_blank(cells: Sequence[str]) -> bool:
    """Return whether a line, such as a lone tab, ends a sentence."""
    return not any(cell.strip() for cell in cells)


def inferred(lines: Sequence[str], *, universal: bool = False) -> Layout:
    """Return the layout of the first lines of a file; `universal` where its name ends in .conllu."""
    rows = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    rows = rows or [line for line in lines if line.strip() and not line.startswith(("# ", "-DOCSTART-"))]
    tab = any("\t" in line for line in rows[:1]) or sum("\t" in line for line in rows) > len(rows) / 2
    cells = [cut(line, tab) for line in rows]
    layout = Layout(tab, _width(cells))
    if layout.width < 2 or not cells:
        return replace(layout, universal=universal, word=int(universal))
    if layout.width >= 11 and any(line.startswith(DOCUMENT) for line in lines):
        layout = replace(layout, width=11, word=3, tag=10, ragged=True)
    elif layout.width > 2 and (universal or _is_numbered(lines, tab)):
        layout = replace(layout, word=1, numbered=True, universal=universal or _is_universal(cells, layout.width))
    cells = [row for row in cells if len(row) >= layout.width]
    if layout.universal or (layout.numbered and layout.width == 10 and {row[-1] for row in cells} == {"_"}):
        layout = replace(layout, tag=min(3, layout.width - 1))
    layout = with_tags(layout, cells, layout.tag % layout.width)
    if names := _column_names(lines, layout.width):
        layout = replace(layout, word=names.index("FORM"), numbered=names[0] == "ID", universal=True)
        return with_tags(layout, cells, layout.width - 1)
    if layout.width > 2 and not (layout.scheme or layout.universal) and _names_no_tags(lines, layout):
        others = [i for i in range(layout.width) if i != layout.word and _are_spans([row[i] for row in cells])]
        layout = with_tags(layout, cells, others[0]) if others else layout
    if layout.width == 2 and not layout.scheme and _are_tags([row[0] for row in cells]):  # as in MIT's movie corpus
        layout = replace(with_tags(layout, cells, 0), word=1)
    return layout


def _are_tags(column: Sequence[str]) -> bool:
    """Return whether a column clearly holds tags of entities, of which at least one isn't O."""
    return bool(set(column) - {"O"}) and all(map(TAG.fullmatch, column))


def _column_names(lines: Sequence[str], width: int) -> list[str]:
    """Return the names of the columns, one of them FORM, that a file of CoNLL-U Plus begins with; none of another."""
    names = lines[0].partition("=")[2].split() if lines and lines[0].startswith("# global.columns") else []
    return names if len(names) == width and "FORM" in names else []


def _names_no_tags(lines: Sequence[str], layout: Layout) -> bool:
    """Return whether the column of tags holds numbers, or one value in every sentence: confidences or annotators."""
    values = [[row[layout.tag] for row in block if len(row) > layout.tag] for block in sentences(lines, layout.tab)]
    one_each = all(len(set(block)) < 2 for block in values) and any(len(block) > 1 for block in values)
    return one_each or all(re.fullmatch(r"-?\d*\.?\d+", value) for block in values for value in block)


def _are_spans(column: Sequence[str]) -> bool:
    """Return whether a column clearly holds tags of spans with types, such as B-PER, and O."""
    return _are_tags(column) and any("-" in tag for tag in column) and len(set(column)) > 1


def with_tags(layout: Layout, cells: Sequence[Sequence[str]], tag: int) -> Layout:
    """Return a layout with its tags in the column `tag`, of which `cells` holds the first."""
    tags = {row[tag] for row in cells if len(row) > tag and row[tag]}
    brackets = any("(" in one for one in tags) and all(one and _BRACKETS.fullmatch(one) for one in tags)
    return replace(layout, tag=tag, brackets=brackets, scheme=all(map(TAG.fullmatch, tags)))


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return the usual number of cells, and at least two where any row has several."""
    counts = Counter(len(row) for row in rows)
    several = {width: count for width, count in counts.items() if width > 1} or counts
    return max(several, key=lambda width: several[width]) if several else 0


def _is_numbered(lines: Sequence[str], tab: bool) -> bool:
    """Return whether first cells count the words of nearly every sentence, from 0 or 1."""
    right = several = count = 0
    for block in sentences(lines, tab):
        numbers = [row[0] for row in block if row[0].isdecimal()]
        first = int(numbers[0]) if numbers else 2
        plain = [row for row in block if not re.fullmatch(r"\d+[-.]\d+", row[0])]
        good = first in (0, 1) and numbers == [str(i) for i in range(first, first + len(plain))]
        right, several, count = right + good, several + (good and len(numbers) > 1), count + 1
    return bool(several) and right >= 0.9 * count


def sentences(lines: Sequence[str], tab: bool) -> Iterator[list[list[str]]]:
    """Yield the cells of each sentence, without lines that begin with #."""
    block: list[list[str]] = []
    for line in lines:
        cells = cut(line, tab)
        if is_blank(cells) or line.startswith("-DOCSTART-"):
            if block:
                yield block
            block = []
        elif not line.startswith("#"):
            block.append(cells)
    if block:
        yield block


def _is_universal(cells: Sequence[Sequence[str]], width: int) -> bool:
    parts = {row[3] for row in cells if len(row) > 3}
    return width == 10 and parts <= _UNIVERSAL and bool(parts - {"_"})


def looks_like_conll(lines: Sequence[str]) -> bool:
    """Return whether the first lines of a text file are clearly words with tags such as B-PER, I-PER and O."""
    layout = inferred(lines)
    rows = [row for block in sentences(lines, layout.tab) for row in block]
    if layout.width < 2 or len(rows) < 2 or any(len(row) != layout.width for row in rows):
        return False
    return any(_are_tags([row[i] for row in rows]) for i in range(layout.width) if i != layout.word)
