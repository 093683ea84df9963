"""How answers are written: as a table for reading, as JSON, as lines of it, between commas or tabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapterkit.cli.common import json_text, print_table
from adapterkit.data.streams import InputRows
from adapterkit.errors import DataError, OptionError, file_errors_as
from adapterkit.io import atomic
from adapterkit.watch import Watch
from adapterkit.workflows.answer import Answered, Answering

Records = Iterator[list[dict[str, Any]]]
"""Records to write, one chunk at a time."""


@dataclass(frozen=True)
class _Layout:
    """How rows and answers become records."""

    answering: Answering
    rows: InputRows
    columns: Collection[str]
    several: bool
    routed: bool
    flat: bool  # every record has the same fields, one value each

    def record(self, one: Answered, *, answers_first: bool) -> dict[str, Any]:
        """Return a row and its answers."""
        answers: dict[str, Any] = one.answers
        if self.several and self.flat:
            answers = {name: self.answering.headline(name, answer) for name, answer in answers.items()}
        elif not self.several:
            ((name, answers),) = one.answers.items()
            if self.routed and self.flat:
                answers = {"answer": self.answering.headline(name, answers), "score": answers.get("score")}
        fields: dict[str, Any] = {}
        for name, value in answers.items():
            while name in self.columns or name in fields:
                name = f"predicted_{name}"
            fields[name] = value
        for name in one.row.keys() - set(self.columns):
            if self.flat or name in fields:
                raise DataError(
                    f"{self.rows.at(one.line)}: column '{name}' is not in the first rows, which set the columns"
                )
        row = {name: one.row.get(name) for name in self.columns} if self.flat else one.row
        return {**fields, **row} if answers_first else {**row, **fields}


def records(answering: Answering, chunks: Iterator[list[Answered]], form: str, bar: Watch) -> Records:
    """Yield rows with their answers as they are to be written, each chunk counted by `bar`."""
    layout = _Layout(
        answering=answering,
        rows=answering.source,
        columns=answering.columns,
        several=len(answering.names) > 1,
        routed=not answering.names,
        flat=form in ("table", "csv", "tsv"),
    )
    for chunk in chunks:
        yield [layout.record(one, answers_first=form == "table") for one in chunk]
        bar.advance(len(chunk))


def print_tables(chunks: Records) -> None:
    """Print a table of each chunk."""
    for chunk in chunks:
        print_table(list(chunk[0]), [[_cell(value) for value in record.values()] for record in chunk])


def _cell(value: Any) -> str:
    """Return a value for reading, in one line."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(v)}" for key, v in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(" ".join(map(_cell, v.values())) if isinstance(v, dict) else _cell(v) for v in value) or "-"
    return "-" if value is None or value == "" else str(value).replace("\t", " | ")


def _json(value: Any, **how: Any) -> str:
    return json_text(value, default=str, **how)


def _lines(chunks: Records) -> Iterator[str]:
    for chunk in chunks:
        yield "".join(f"{_json(record)}\n" for record in chunk)


def _list(chunks: Records) -> Iterator[str]:
    """Write one indented JSON list, chunk by chunk."""
    before = "["
    for chunk in chunks:
        yield before + ",".join("\n  " + _json(record, indent=2).replace("\n", "\n  ") for record in chunk)
        before = ","
    yield "\n]\n"


def _separated(chunks: Records, by: str) -> Iterator[str]:
    header = True
    for chunk in chunks:
        rows = ([chunk[0]] if header else []) + [record.values() for record in chunk]
        yield "".join(by.join(map(_quoted, row)) + "\n" for row in rows)
        header = False


def _quoted(value: Any) -> str:
    """Return a cell, in quotes where it has to be; lists and objects as JSON."""
    json_value = isinstance(value, list | dict | bool | int | float)
    text = _json(value) if json_value else "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if re.search('[",\t\r\n]', text) else text


WRITERS: dict[str, Callable[[Records], Iterator[str]]] = {
    "jsonl": _lines,
    "json": _list,
    "csv": lambda chunks: _separated(chunks, ","),
    "tsv": lambda chunks: _separated(chunks, "\t"),
}
"""The function that writes records as text, by format."""


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is whole; where anything goes wrong, it is gone."""
    if path.is_dir():
        raise OptionError(f"--out {path} is a folder, and a file was expected")
    with file_errors_as(DataError), atomic.new_file(path) as file:
        yield file
