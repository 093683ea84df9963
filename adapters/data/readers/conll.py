"""Read sentences from CoNLL columns: a token with its tag per line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import DataError
from .conll_layout import DOCUMENT, SAMPLE, Layout, inferred, is_blank, sentences, with_tags
from .source import BadRow, NumberedRows, Source, has_surrogates

Block = list[tuple[int, list[str]]]
"""The lines of a sentence, each with its cells."""
SKIPPED = {
    "comment": ("comment line skipped", "comment lines skipped"),
    "docstart": ("-DOCSTART- line skipped", "-DOCSTART- lines skipped"),
    "range": ("line of a range of words (1-2) skipped", "lines of ranges of words (1-2) skipped"),
    "empty": ("empty node (2.1) skipped", "empty nodes (2.1) skipped"),
}
"""How lines that are no words are counted."""
LONG = 40
"""The words of a single sentence that looks like several."""
_WORD_NAMES = {"word", "words", "token", "tokens", "form"}
_TAG_NAMES = {"tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "bio", "iob", "entity", "pos", "upos"}
_NAMES = {*_WORD_NAMES, *_TAG_NAMES, "id", "sentence", "sentence_id", "sent_id", "lemma", "chunk", "xpos", "pos_tag"}
"""The names of columns of a header, which few files of CoNLL have."""


def read_conll(source: Source) -> NumberedRows:
    """Read columns with a token per line and a blank line after each sentence.

    The token is the first column, or the second where the first numbers the words; the tag is the last column. In
    CoNLL-U the tag is the fourth: the part of speech. Options overrule both.
    """
    header = _header(source.sample(SAMPLE))
    layout = _layout(source, header)
    skipped: Counter[str] = Counter()
    prefix = _language(source, layout)
    lengths: list[int] = []
    lines = ("\n" if number == header else line for number, line in enumerate(source.lines(), start=1))
    for block in _blocks(lines, layout, skipped):
        words = [row for row in block if not _is_no_word(row[1], layout, skipped)]
        if layout.width < 2 and source.options.every_row and all(len(cells) == 1 for _, cells in words):
            yield from [(block[0][0], {"tokens": [cells[0] for _, cells in words]})] if words else []
            continue
        errors = ((n, error) for n, cells in words if (error := _error(cells, layout)))
        if first := next(errors, None):
            yield first[0], BadRow(source.undecoded(first[1]) or first[1])
        elif words:
            columns = {i: [cells[i] for _, cells in words] for i in range(layout.width)}
            tokens, tags = columns.pop(layout.word), columns.pop(layout.tag)
            lengths = [*lengths[:1], len(tokens)]
            if prefix:
                tokens = [token.removeprefix(prefix) for token in tokens]
            named = {"tokens": tokens, "tags": _from_brackets(tags) if layout.brackets else tags}
            yield block[0][0], named | {f"column_{i}": cells for i, cells in columns.items()}
    for kind, (one, many) in SKIPPED.items():
        source.count(skipped[kind], one, many)
    if len(lengths) == 1 and lengths[0] > LONG:
        source.notes.append(f"a single sentence, of {lengths[0]:,} words; a blank line ends a sentence")


def _header(lines: Sequence[str]) -> int:
    """Return the number of the first line that isn't blank where it names columns of words and tags; else 0."""
    number = next((i for i, line in enumerate(lines) if line.strip()), 0)
    names = lines[number].lower().split() if lines else []
    named = len(names) > 1 and {*names} <= _NAMES and names[-1] in _TAG_NAMES and bool({*names} & _WORD_NAMES)
    return number + 1 if named and lines.count(lines[number]) == 1 else 0


def _language(source: Source, layout: Layout) -> str:
    """Return the language before each word, as in WikiAnn's `en:Oslo`, with a note; empty for other files."""
    words = [
        cells[layout.word]
        for block in sentences(source.sample(SAMPLE), layout.tab)
        for cells in block
        if len(cells) > layout.word
    ]
    prefix = words[0].partition(":")[0] + ":" if words else ""
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z]+)*:", prefix) or len(words) < 3:
        return ""
    if not all(word.startswith(prefix) and len(word) > len(prefix) for word in words):
        return ""
    source.notes.append(f"'{prefix}' before every word left out")
    return prefix


def _layout(source: Source, header: int) -> Layout:
    """Return the layout of a file with the columns that the options choose; notes one that isn't the usual."""
    lines = source.sample(SAMPLE)
    if header:
        source.notes.append(f"line {header} names the columns: left out ({' '.join(lines[header - 1].split())})")
        lines = [line for number, line in enumerate(lines, start=1) if number != header]
    named = Path(source.path).suffix.lower() == ".conllu"
    layout = inferred(lines, universal=named)
    word, tag, width = source.options.word_column, source.options.tag_column, layout.width
    if width > 1:
        cells = [row for block in sentences(lines, layout.tab) for row in block]
        token = layout.word if word is None else _column(word, width)
        column = layout.tag if tag is None else _column(tag, width)
        if word is not None and not 0 <= token < width:
            raise DataError(f"{source.name}: word_column={word}, but there are {width} columns, numbered from 0")
        if column == token or not 0 <= column < width:
            chosen = tag if tag is not None else layout.tag
            raise DataError(
                f"{source.name}: tag_column={chosen}, but there are {width} columns, numbered from 0, "
                f"with the token in column {token}"
            )
        layout = with_tags(layout, cells, column)
        before_last = tag is None and not layout.universal and column != width - 1
        unusual = layout.brackets or before_last or (not named and word is None and layout.word)
        layout = replace(layout, word=token)
        if unusual:
            source.notes.append(layout.describe())
    return layout


def _column(chosen: int, width: int) -> int:
    return chosen + width if chosen < 0 else chosen


def _blocks(lines: Iterable[str], layout: Layout, skipped: Counter[str]) -> Iterator[Block]:
    """Yield sentences as numbered lines of cells, without blank lines, -DOCSTART- and comments."""
    block: Block = []
    for number, line in enumerate(lines, start=1):
        cells = layout.cells(line)
        docstart, document = line.startswith("-DOCSTART-"), line.startswith(DOCUMENT)
        if docstart or document or is_blank(cells):
            skipped["docstart"] += docstart
            skipped["comment"] += document
            if block:
                yield block
            block = []
        elif (not block or layout.numbered) and layout.is_comment(line, cells):
            skipped["comment"] += 1
        else:
            block.append((number, cells))
    if block:
        yield block


def _is_no_word(cells: list[str], layout: Layout, skipped: Counter[str]) -> bool:
    """Return whether a line of CoNLL-U is a range of words or an empty node."""
    if not layout.universal:
        return False
    kind = "range" if re.fullmatch(r"\d+-\d+", cells[0]) else "empty" if re.fullmatch(r"\d+\.\d+", cells[0]) else ""
    skipped[kind] += bool(kind)
    return bool(kind)


def _error(cells: list[str], layout: Layout) -> str | None:
    by = "tabs" if layout.tab else "spaces"
    if layout.width < 2:
        return f"{len(cells)} column, and at least 2 were expected: a token and a tag, separated by a tab or spaces"
    if len(cells) < layout.width or (len(cells) > layout.width and not layout.ragged):
        return f"{len(cells)} column{'s' * (len(cells) != 1)}, and {layout.width} were expected, separated by {by}"
    if undecoded := next(filter(has_surrogates, cells), None):
        return undecoded
    return "empty token" if not cells[layout.word].strip() else "empty tag" if not cells[layout.tag].strip() else None


def _from_brackets(cells: list[str]) -> list[str]:
    """Return the tags of spans in brackets, (PER* to *): the outermost span of a word counts."""
    tags, open_types = [], list[str]()
    for cell in cells:
        begins = re.findall(r"\(([^()*\s]+)", cell)
        begun = not open_types and bool(begins)
        open_types += begins
        tags.append(f"{'B' if begun else 'I'}-{open_types[0]}" if open_types else "O")
        del open_types[max(len(open_types) - cell.count(")"), 0) :]
    return tags
