"""How answers are written: as a table for reading, as JSON, as lines of it, between commas or tabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapterkit.cli.common import json_text, print_table
from adapterkit.data.input_rows import InputRows
from adapterkit.errors import DataError, OptionError, file_errors_as
from adapterkit.io import atomic
from adapterkit.watch import Watch
from adapterkit.workflows.answer import Answered, Answering

ERROR = "error"
"""The field with the reason why a row has no answer."""
_SHOWN = 4
"""The numbers of a vector that a table shows."""
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
    errors: bool  # rows may have a reason in the place of an answer
    fields: dict[str, None]  # of an answer, once one is known

    def answers(self, one: Answered) -> dict[str, Any]:
        """Return the fields of a row's answers, and the reason where there is none."""
        if self.several:
            return self._of_several(one)
        error = {ERROR: next(iter(one.errors.values()), None)} if one.errors or (self.flat and self.errors) else {}
        if not one.answers:
            return {**self.fields, **error} if self.flat else error
        ((name, answer),) = one.answers.items()
        if self.routed and self.flat:
            answer = {"answer": self.answering.headline(name, answer), "score": answer.get("score")}
        self.fields.update(dict.fromkeys(answer))
        return {**answer, **error}

    def _of_several(self, one: Answered) -> dict[str, Any]:
        """Return the answer, or the reason where there is none, by adapter."""
        if self.flat:
            headlines = {name: self.answering.headline(name, answer) for name, answer in one.answers.items()}
            return {
                name: headlines[name] if name in headlines else f"{ERROR}: {one.errors.get(name, one.errors.get(''))}"
                for name in self.answering.names
            }
        return {
            name: one.answers[name] if name in one.answers else {ERROR: one.errors.get(name, one.errors.get(""))}
            for name in self.answering.names
        }

    def record(self, one: Answered, *, answers_first: bool) -> dict[str, Any]:
        """Return a row and its answers."""
        answers = self.answers(one)
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
        errors=answering.source.skip_bad,
        fields={},
    )
    waiting: list[Answered] = []  # rows without an answer before the first answer, whose fields they need
    for chunk in chunks:
        waiting += chunk
        answered = next((one for one in waiting if one.answers), None)
        if answered is not None:
            layout.answers(answered)
        elif layout.flat:
            continue
        yield [layout.record(one, answers_first=form == "table") for one in waiting]
        bar.advance(len(waiting))
        waiting = []
    if waiting:
        yield [layout.record(one, answers_first=form == "table") for one in waiting]


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
    if isinstance(value, list) and len(value) > _SHOWN and all(isinstance(v, float) for v in value):
        return f"{' '.join(map(_cell, value[:_SHOWN]))} … ({len(value)} numbers)"
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
    """Return a cell, in quotes where it would be read as another without them; lists and objects as JSON."""
    json_value = isinstance(value, list | dict | bool | int | float)
    text = _json(value) if json_value else "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if re.search("^ *'|[\",\t\r\n]", text) else text


WRITERS: dict[str, Callable[[Records], Iterator[str]]] = {
    "jsonl": _lines,
    "json": _list,
    "csv": lambda chunks: _separated(chunks, ","),
    "tsv": lambda chunks: _separated(chunks, "\t"),
}
"""The function that writes records as text, by format."""


BINARY = ("npy", "parquet")
"""The formats that are written to files alone."""


def binary_writer(form: str) -> Callable[[Records, BinaryIO], None]:
    """Return the function that writes records to a file in one of `BINARY`."""
    from adapterkit.workflows.vector_files import WRITERS as TO_FILES

    return TO_FILES[form]


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is whole; where anything goes wrong, it is gone."""
    if path.is_dir():
        raise OptionError(f"--out {path} is a folder, and a file was expected")
    with file_errors_as(DataError), atomic.new_file(path) as file:
        yield file
