"""Read Prodigy's rows: leave out rejected ones, and read the accepted options of a choice as labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from .source import BadRow, NumberedRows, Row, Source

PEEK = 1000
"""The most rows that are looked at to find out whether a choice allows several options."""
_ANSWERS = ("accept", "reject", "ignore")
_MARKS = {"_input_hash", "_task_hash", "_view_id", "_session_id", "_annotator_id", "spans", "accept", "options"}


def accepted(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Leave out rows of Prodigy whose answer is reject or ignore, and make labels of accepted options.

    Of rows to predict none is left out.
    """
    head = list(islice(numbered, PEEK))
    several = any(_allows_several(row) for _, row in head if not isinstance(row, BadRow))
    left_out: Counter[str] = Counter()
    chosen = 0
    for number, row in chain(head, numbered):
        if isinstance(row, BadRow) or source.options.every_row:
            yield number, row
            continue
        if _is_answered(row) and row["answer"] != "accept":
            left_out[f"the answer '{row['answer']}'"] += 1
            continue
        if _is_choice(row):
            chosen += 1
            if not row["accept"] and not several:
                left_out["no accepted option"] += 1
                continue
            row = _with_label(row, several)
        yield number, row
    for why, count in left_out.items():
        source.count(count, f"row with {why} left out", f"rows with {why} left out")
    if chosen:
        source.notes.append(f"accepted options read as {'lists of labels' if several else 'labels'} (label)")


def _is_answered(row: Row) -> bool:
    """Return whether a row is Prodigy's: with an answer, and with a mark of it or a label of a text."""
    if row.get("answer") not in _ANSWERS:
        return False
    return bool(_MARKS & {*row}) or {"text", "label"} <= {*row}


def _is_choice(row: Row) -> bool:
    options = row.get("options")
    return (
        isinstance(row.get("accept"), list)
        and isinstance(options, list)
        and all(isinstance(option, Mapping) for option in options)
        and "label" not in row
    )


def _allows_several(row: Row) -> bool:
    if not _is_choice(row):
        return False
    config: Any = row.get("config")
    style = config.get("choice_style") if isinstance(config, Mapping) else None
    return style == "multiple" or len(row["accept"]) > 1


def _with_label(row: Row, several: bool) -> Row | BadRow:
    labels = [str(option) for option in row["accept"]]
    if len(labels) > 1 and not several:
        return BadRow(f"{len(labels)} accepted options, and one was expected, as in the rows before")
    return {**row, "label": labels if several else labels[0]}
