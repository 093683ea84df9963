"""Give each column of a file one Arrow type, and set aside the rows or the columns whose values don't fit it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Number
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .readers import BadRow, Row
from .skipped import Skipped

if TYPE_CHECKING:
    from datasets import Dataset

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which is no character."""
LINE = "__line__"
"""The column with a row's line in its file or, in a file without lines, its number from 1."""

Parses = Callable[[str, str], bool]
"""Whether a task reads a column's cell that is JSON as what it holds: by the column and the cell."""


@dataclass
class Mixed:
    """A column whose values are of several types, read as text: numbers in digits, JSON for lists and objects.

    A task reads texts with numbers or true and false among them; it refuses other values among them, and any other
    type than that of the first values.
    """

    expected: str  # the type of the first values, in words
    reason: str = ""  # why the first value that is refused doesn't fit those before it
    lines: list[int] = field(default_factory=list)  # of the values that don't fit
    unit: str = "line"
    refused: list[int] = field(default_factory=list)  # lines of those that a task refuses
    numbers: list[int] = field(default_factory=list)  # lines of all numbers, true and false

    def add(self, line: int, value: Any, reason: str, *, plain: bool) -> None:
        """Add the line of a value that doesn't fit; `plain` is whether those before it are texts or numbers."""
        self.lines.append(line)
        if not (plain and is_plain(value)):
            self.reason = self.reason or reason
            self.refused.append(line)

    def note(self, column: str) -> str:
        """Describe a column that the task doesn't read."""
        count = "1 row holds" if len(self.lines) == 1 else f"{len(self.lines):,} rows hold"
        return (
            f"column '{column}', which the task doesn't read, is read as text: {count} something else than "
            f"{self.expected}, first at {self.unit} {self.lines[0]}"
        )

    def note_of_numbers(self, column: str) -> str:
        """Describe a column that the task reads as texts."""
        count = "1 number" if len(self.numbers) == 1 else f"{len(self.numbers):,} numbers"
        first = f"first at {self.unit} {self.numbers[0]}"
        return f"column '{column}' holds values of several types: {count} (or true, false) read as text, {first}"


def of_one_type(
    data: Dataset,
    mixed: Mapping[str, Mixed],
    columns: Iterable[str],
    file: str,
    notes: list[str],
    *,
    skip: bool,
    parses: Parses | None = None,
) -> Dataset:
    """Return rows whose values in `columns`, which a task reads, are of one type each, or texts and numbers as texts.

    Such columns, and others of several types, are noted. A column of several types is one of JSON where the task
    `parses` each of its cells. Raises `DataError` for the first row with another value, unless such rows are skipped.
    """
    nested = {c for c in mixed if parses and all(value is None or parses(c, value) for value in data[c][:])}
    wanted = set(columns) - nested
    notes += [f"{file}: {m.note(column)}" for column, m in mixed.items() if column not in wanted | nested]
    read = sorted((m for column, m in mixed.items() if column in wanted and m.refused), key=lambda m: m.refused[0])
    if read and not skip:
        raise DataError(f"{file}:{read[0].refused[0]}: {read[0].reason}")
    notes += [
        f"{file}: {m.note_of_numbers(column)}"
        for column, m in mixed.items()
        if column in wanted and m.numbers and len(m.refused) < len(m.lines)
    ]
    if not read:
        return data
    bad = {line for m in read for line in m.refused}
    good = [i for i, line in enumerate(data[LINE]) if line not in bad]
    skipped = Skipped()
    for line, reason in sorted((line, m.reason) for m in read for line in m.refused):
        skipped.add(line, reason)
    notes.append(skipped.note(file))
    if not good:
        raise DataError(f"no row of {file} can be used: {notes[-1]}")
    return data.select(good)


class Fit:
    """Give each column one type, as wide as its rows need, and sort out the rows that don't fit the rows before.

    With `expected`, which holds the schema of the first values by mixed column, no row is sorted out: a column with
    other values than before becomes text, and `mixed` describes it.
    """

    def __init__(self, name: str, schema: Any, skip: bool, expected: Mapping[str, Any] | None = None) -> None:
        self.name, self.schema, self.skip = name, schema, skip
        self.skipped = Skipped()
        self.expected = None if expected is None else dict(expected)
        self.mixed: dict[str, Mixed] = {}
        self._numbers: dict[str, list[int]] = {}  # by column, the lines of numbers

    def batch(self, chunk: list[tuple[int, Row | BadRow]]) -> Any:
        """Return the rows of a chunk as a record batch, or None where all are bad; `schema` is widened by them."""
        bad = [(line, row.reason) for line, row in chunk if isinstance(row, BadRow)]
        good = [(line, {**_with_nulls(row), LINE: line}) for line, row in chunk if not isinstance(row, BadRow)]
        batch = None
        while good and batch is None:
            try:
                batch = _record([self._as_text(row) for _, row in good], self.schema)
            except UNFIT:
                good, unfit = self._sifted(good)
                bad += unfit
        if bad:
            self._skip(bad)
        if batch is not None:
            self.schema = batch.schema
            for line, row in good:
                self._count_mixed(line, row)
        return batch

    def _sifted(self, rows: list[tuple[int, Row]]) -> tuple[list[tuple[int, Row]], list[tuple[int, str]]]:
        good, bad = [], []
        for line, row in rows:
            try:
                self._widen(row)
                good.append((line, row))
            except UNFIT as error:
                bad.append((line, _misfit(row, self.schema, error)))
        return good, bad

    def _widen(self, row: Row) -> None:
        """Widen the schema by a row; where mixed columns are allowed, those that don't fit become text."""
        while True:
            try:
                self.schema = _record([self._as_text(row)], self.schema).schema
                return
            except UNFIT:
                column = self._unfit_column(self._as_text(row)) if self.expected is not None else None
                if column is None or self.expected is None:
                    raise
                self.expected[column] = self._only(column)
                self.schema = _with_text(self.schema, column)

    def _unfit_column(self, row: Row) -> str | None:
        for name, value in row.items():
            if name not in (self.expected or {}):
                try:
                    _record([{name: value}], self._only(name))
                except UNFIT:
                    return name
        return None

    def _only(self, column: str) -> Any:
        import pyarrow as pa  # type: ignore[import-untyped]

        return pa.schema([self.schema.field(column)] if column in self.schema.names else [])

    def _as_text(self, row: Row) -> Row:
        """Return a row with the values of mixed columns as texts."""
        if not self.expected:
            return row
        return {name: _text(value) if name in self.expected else value for name, value in row.items()}

    def _count_mixed(self, line: int, row: Row) -> None:
        for column, schema in (self.expected or {}).items():
            value = row.get(column)
            if value is None:
                continue
            if isinstance(value, Number):
                self._numbers.setdefault(column, []).append(line)
            try:
                self.expected[column] = _record([{column: value}], schema).schema  # type: ignore[index]
            except UNFIT as error:
                kind = schema.field(column).type if schema.names else None
                words = "a value that Arrow can hold" if kind is None else _words(kind)
                numbers = self._numbers.setdefault(column, [])
                mixed = self.mixed.setdefault(column, Mixed(words, numbers=numbers))
                reason = _misfit({column: value}, schema, error)
                mixed.add(line, value, reason, plain=kind is None or not kind.num_fields)

    def _skip(self, bad: list[tuple[int, str]]) -> None:
        bad.sort()
        if not self.skip:
            line, reason = bad[0]
            raise DataError(f"{self.name}:{line}: {reason}")
        for line, reason in bad:
            self.skipped.add(line, reason)


def _with_nulls(row: Row) -> Row:
    """Return a row with null for NaN, which pandas writes where a value is missing."""
    if any(isinstance(value, float) and value != value for value in row.values()):
        return {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
    return row


def _with_text(schema: Any, column: str) -> Any:
    """Return a schema in which a column holds texts."""
    import pyarrow as pa

    fields = [pa.field(f.name, pa.string()) if f.name == column else f for f in schema]
    return pa.schema(fields if column in schema.names else [*fields, pa.field(column, pa.string())])


def number_text(value: Number) -> str:
    """Return a number in digits: a whole number alike in a column of integers and of fractions."""
    integral = isinstance(value, float) and value.is_integer()
    return str(int(value)) if integral else str(value)  # type: ignore[call-overload]


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, or a text without half of a surrogate pair."""
    return isinstance(value, Number) or (isinstance(value, str) and not SURROGATE.search(value))


def _text(value: Any) -> str | None:
    """Return a value as a text: JSON for all but texts and numbers, and for texts with half of a surrogate pair."""
    if isinstance(value, Number):
        return number_text(value)
    return value if value is None or is_plain(value) else json.dumps(value, default=str)


_DEEPEST = 60
"""The most levels of lists and objects in a value; Arrow's files hold 64."""
UNFIT = (ValueError, TypeError, OverflowError, NotImplementedError)
"""What pyarrow raises for a value that is not of a column's type; its own errors are subclasses of these."""


def _record(rows: list[Row], schema: Any) -> Any:
    """Return rows as a record batch whose types are those of `schema`, widened where these rows need it.

    A whole number widens to a fraction, null to anything, an object to one with more keys; nothing else.
    """
    import pyarrow as pa

    names = dict.fromkeys([*schema.names, *(name for row in rows for name in row)])
    columns = {name: [row.get(name) for row in rows] for name in names}
    batch = pa.RecordBatch.from_pydict(columns)
    for name, kind in zip(batch.schema.names, batch.schema.types, strict=True):
        if kind == pa.float64() and any(isinstance(value, bool) for value in columns[name]):
            raise TypeError("true or false among numbers")  # pyarrow would convert it to 1.0
        if kind.num_fields and _depth(kind) > _DEEPEST:
            raise ValueError(f"nested in more than {_DEEPEST} levels")
    wide = pa.unify_schemas([schema, batch.schema], promote_options="permissive")
    return batch if batch.schema == wide else pa.RecordBatch.from_pydict(columns, schema=wide)


def _depth(kind: Any) -> int:
    """Return the number of levels of an Arrow type: 1 for a number, 2 for a list of numbers."""
    level, depth = [kind], 0
    while level:
        level, depth = [one.field(i).type for one in level for i in range(one.num_fields)], depth + 1
    return depth


def _misfit(row: Row, schema: Any, error: Exception) -> str:
    """Return which column of a row doesn't fit the rows before, what it holds and what was expected."""
    import pyarrow as pa

    for name, value in row.items():
        before = [schema.field(name)] if name in schema.names else []
        try:
            _record([{name: value}], pa.schema(before))
        except UNFIT as column_error:
            shown = json.dumps(value, default=str)
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            try:
                arrow_type = pa.array([value]).type
            except UNFIT:
                return f"{name} is {shown}: {_plain(column_error)}"
            kind = _words(arrow_type)
            if not before or kind == _words(before[0].type) or _depth(arrow_type) > _DEEPEST:
                return f"{name} is {shown}: {_plain(column_error)}"
            return f"{name} is {kind}, {shown}; {_words(before[0].type)} was expected, as in the rows before"
    return _plain(error)


def _plain(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair, which is no character"
    if isinstance(error, OverflowError):
        return "a whole number of more than 64 bits"
    return str(error).splitlines()[0]


def _words(kind: Any) -> str:
    """Return an Arrow type in words."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return "an empty list" if pa.types.is_null(kind.value_type) else f"a list of {_words(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{f.name}: {_words(f.type)}" for f in kind) + "}"
    words = {pa.string(): "text", pa.int64(): "a number", pa.float64(): "a number", pa.bool_(): "true or false"}
    return words.get(kind, str(kind))
