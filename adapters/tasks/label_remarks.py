"""Remarks on texts and labels: what is read differently from the file, and labels that look like mistakes."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

from ..data.blank import is_blank, without_invisible
from ..data.listed import listed
from ..errors import printable
from .labels import NUMBER, SINGLE, Kind, has_decimal_comma, has_thousands, number_in, without_ends
from .values import is_empty

SEPARATORS = (",", ";", "|", "/", "+", "&", "#", "\n", "\t")
MOST = 5
"""The most labels that a remark names."""
_RARE, _FREQUENT, _SIMILAR = 3, 8, 0.8
"""Rows of a misspelled label at most, how many times as many the right one has, and how similar both are."""
_COMPARED = 500
"""The most labels that are compared with each other."""


def reading_remarks(texts: Mapping[str, Iterable[Any]], label: str, cells: Iterable[Any], several: bool) -> list[str]:
    """Return how many texts and labels are read differently from the file.

    `texts` are the columns of texts, `cells` those of the label; `several` is whether a row has several labels.
    """
    remarks = [remark for column, values in texts.items() for remark in _text_remarks(column, values, len(texts) > 1)]
    stripped = lists = empty = 0
    for cell in cells:
        lists += several and isinstance(cell, str) and listed(cell) is not None
        empty += several and isinstance(cell, str) and is_blank(cell)
        parts = cell if isinstance(cell, list) else [cell]
        stripped += any(isinstance(part, str) and part != without_ends(part) and not is_blank(part) for part in parts)
    plural = "label" if stripped == 1 else "labels"
    remarks += [f"spaces around {stripped:,} {plural} in column '{label}' removed"] * bool(stripped)
    remarks += [f"{lists:,} cells of column '{label}' hold a list as text: read as several labels"] * bool(lists)
    remarks += [f"{empty:,} empty cells of column '{label}': read as no label"] * bool(empty)
    return remarks


def _text_remarks(column: str, values: Iterable[Any], pair: bool) -> Iterator[str]:
    kinds = Counter(_kind_of_text(value) for value in _streamed(values))
    if kinds["list"]:
        yield f"{kinds['list']:,} lists in column '{column}': joined by spaces"
    if kinds["number"]:
        yield f"{kinds['number']:,} numbers in column '{column}': read as texts"
    if kinds["bytes"]:
        yield f"{kinds['bytes']:,} texts in column '{column}' are Python's notation of bytes, b'...': read as they are"
    if pair and kinds["empty"]:
        yield f"{kinds['empty']:,} rows have nothing in column '{column}': read as an empty text"


def _streamed(values: Any) -> Iterator[Any]:
    for start in range(0, len(values), 10_000):
        yield from values[start : start + 10_000]


def _kind_of_text(value: Any) -> str:
    if isinstance(value, str) and _BYTES.fullmatch(value):
        return "bytes"
    if isinstance(value, str) and value:
        return "text" if not value.isspace() else "empty"
    if is_empty(value):
        return "empty"
    return "list" if isinstance(value, list) else "number" if isinstance(value, Number) else "text"


ABSENT = {"na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "nil", "-", "?", "unknown", "<na>", "\\n"}
"""Labels that tools and people write where there is none."""


_PAIRS = (
    "the labels in column '{}' are read as classes; --problem-type regression reads numbers with a decimal comma, and "
    "--label-separator , several labels in a cell"
)
_ALIKE = str.maketrans("авеіјкмнорсѕтухёїαεικνορτυχ", "abeijkmhopcstyxeiaeiknoptux")
"""Cyrillic and Greek letters that look like Latin ones, also as capitals."""
_ALONE = "labels that differ in case, hyphens, leading zeros, look-alike letters, spaces or invisible characters alone"
_AMOUNT = re.compile(
    r"(?P<before>[^\w\s+-]{0,3}|[A-Z]{3}) ?[+-]?(\d+|\d{1,3}([.,' \u00a0\u202f\u2019]\d{3})+)([.,]\d+)?"
    r"(?P<after>[^\d,.]{0,8})"
)
"""A number with a currency or a unit, or with thousands in groups: $1.50, 1.5 EUR, 1'000.5, 1.000,5."""
_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d\b|\d\d?-({_MONTH})$|({_MONTH})-\d\d$", re.IGNORECASE)
_BYTES = re.compile(r"b'.+'|b\".+\"", re.DOTALL)


def label_remarks(label: str, cells: Sequence[Any], counts: Mapping[str, int], kind: Kind) -> list[str]:
    """Return what looks like a mistake in the labels of the training rows: their cells, and the rows of each label."""
    if kind == NUMBER:
        numbers = [number for cell in cells if (number := number_in(cell)) is not None]
        commas = sum(map(has_decimal_comma, cells))
        read = [f"{commas:,} numbers in column '{label}' with a decimal comma or a percent sign: read as 4.5 of 4,5"]
        thousands = sum(map(has_thousands, cells))
        separated = [f"{thousands:,} numbers in column '{label}' with separated thousands: read as 1234.5 of 1,234.5"]
        return read * bool(commas) + separated * bool(thousands) + list(_number_remarks(label, numbers))
    if _are_amounts(counts):
        return [
            f"the labels in column '{label}' look like numbers with other signs ({_named(sorted(counts)[:2])}), and "
            "are read as classes; as plain numbers, they are learned by regression"
        ]
    pairs = len(counts) > 1 and all(re.fullmatch(r"-?\d+,\d+", name) for name in counts)
    if len(counts) > max(20, len(cells) / 2):
        many = f"{len(counts):,} different labels in {len(cells):,} rows: is column '{label}' one of ids or texts?"
        return [_PAIRS.format(label) if pairs else f"{many} --task text2text-generation learns to generate texts"]
    remarks = [f"{_ALONE}: {_named(same)}" for same in _variants(counts)]
    once = sorted(name for name, count in counts.items() if count == 1)
    near = {rare: name for rare, name in _misspelled(counts) if rare.casefold() != name.casefold()}
    remarks += [
        f"label '{rare}' ({counts[rare]}) looks like '{name}' ({counts[name]:,})" for rare, name in near.items()
    ]
    if rest := [name for name in once if name not in near]:
        remarks.append(f"{len(rest):,} {'label' if len(rest) == 1 else 'labels'} of one row each: {_named(rest)}")
    numbered = sum(map(str.isdecimal, counts)) > 2  # -1, 0 and 1 may be kinds of sentiment
    codes = {"-1", "-100"} if numbered else set()  # of data sets on the Hub, and of PyTorch
    if absent := sorted(name for name in counts if name.casefold() in ABSENT | codes):
        rows = sum(counts[name] for name in absent)
        remarks.append(f"{rows:,} rows have a label that often means none: {_named(absent)}")
    if (dates := sorted(filter(_DATE.match, counts))) and len(dates) < len(counts):
        rows = sum(counts[name] for name in dates)
        remarks.append(f"{rows:,} rows have a date among other labels, as spreadsheets make of 1-2: {_named(dates)}")
    if lists := sorted(name for name in counts if len(listed(name) or ()) > 1 and set(name) & set("'\"")):
        rows = sum(counts[name] for name in lists)
        remarks.append(f"{rows:,} rows have a list as text, read as one label, as most have none: {_named(lists)}")
    if "O" in counts and (tag := next((name for name in counts if name[:2] in ("B-", "I-")), None)):
        remarks.append(
            f"labels '{tag}' and 'O' look like tags of words; token-classification reads a sentence per row, or a "
            "word per line of a .conll file"
        )
    remarks += [_PAIRS.format(label)] * pairs
    return remarks + (list(_joined_remarks(label, counts)) if kind == SINGLE else [])


def _are_amounts(counts: Mapping[str, int]) -> bool:
    """Return whether most labels are different numbers with a fraction and one currency, unit or sign of thousands."""
    matches = [match for name in counts if (match := _AMOUNT.fullmatch(name)) and number_in(name) is None]
    signs = {(match["before"], match["after"]) for match in matches}
    fractions = sum(bool(re.search(r"\d[.,]\d", name)) for name in counts)
    return (
        len(counts) >= _FREQUENT
        and 10 * len(matches) >= 9 * len(counts)
        and len(signs) == 1
        and 2 * fractions > len(counts)
    )


def _number_remarks(label: str, numbers: Sequence[float]) -> Iterator[str]:
    different = set(numbers)
    if len(numbers) < 2 or not all(number.is_integer() for number in different):
        return
    if len(different) == len(numbers) > _FREQUENT:
        yield f"{len(numbers):,} different whole numbers in column '{label}', one a row: is it one of ids?"
    elif len(different) <= 20:
        yield (
            f"column '{label}' holds {len(different)} whole numbers, written with a point, and is read as numbers; "
            f"--problem-type {SINGLE} reads them as classes"
        )


def _variants(counts: Mapping[str, int]) -> list[list[str]]:
    by_key: dict[str, list[str]] = {}
    for name in counts:
        folded = unicodedata.normalize("NFKC", without_invisible(name)).casefold().translate(_ALIKE)
        words = re.split(r"[\s_-]+", folded) if any(map(str.isalpha, folded)) else folded.split()  # 1-2 is not 12
        by_key.setdefault(" ".join(re.sub(r"^0+(?=\d)", "", word) for word in words if word), []).append(name)
    return [sorted(names) for names in by_key.values() if len(names) > 1]


def _misspelled(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield rare labels with the frequent one that they are similar to; differing digits are no misspelling."""
    if len(counts) > _COMPARED:
        return
    for rare in sorted(name for name, count in counts.items() if count <= _RARE and len(name) > 3):
        frequent = [name for name, count in counts.items() if count >= _FREQUENT * counts[rare]]
        for name in difflib.get_close_matches(rare, frequent, n=1, cutoff=_SIMILAR):
            if [c for c in rare if c.isdigit()] == [c for c in name if c.isdigit()]:
                yield rare, name


def _joined_remarks(label: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a remark where labels are others joined by a separator."""
    for separator in (*SEPARATORS, " "):
        parts = {name: [part.strip() for part in name.split(separator)] for name in counts if separator in name}
        each = all if separator == " " else any  # words of one label are seldom labels
        joined = [name for name, of_name in parts.items() if all(of_name) and each(part in counts for part in of_name)]
        if joined and 2 * len(joined) >= len(parts):
            rows, written = sum(counts[name] for name in joined), repr(separator)
            yield (
                f"{rows:,} rows have labels that look like several joined by {written} ({_named(sorted(joined))}); "
                f"--label-separator {written} reads each"
            )
            return


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"'{printable(name)}'" for name in names[:MOST]) + (", …" if len(names) > MOST else "")
