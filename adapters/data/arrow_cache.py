"""Cache the rows of a file as an Arrow table on disk, keyed by the content of the file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import DataError, FileError
from ..io.atomic import check_writable, new_file, write_file
from ..settings import DataOptions
from ..watch import Watch
from .readers import VERSION, BadRow, NumberedRows, Row, Source
from .skipped import Skipped

if TYPE_CHECKING:
    from datasets import Dataset

LINE = "__line__"
"""The column with a row's line in its file or, in a file without lines, its number from 1."""
Start = Callable[[], AbstractContextManager[tuple[Source, NumberedRows]]]


def cached_dataset(
    name: str,
    key: Mapping[str, Any],
    start: Start,
    options: DataOptions,
    watch: Watch | None,
    notes: list[str] | None,
    check: Callable[[], None] = lambda: None,
) -> Dataset:
    """Return the rows that `start` opens as a data set, from the cache where they are there under `key`."""
    import datasets

    identity = {**key, "version": VERSION, "skip_bad_rows": options.skip_bad_rows}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = Path(datasets.config.HF_DATASETS_CACHE, "adapterkit")
    rows, skipped = folder / f"{digest}.arrow", folder / f"{digest}.json"
    if not (rows.exists() and skipped.exists()):
        try:
            check_writable(folder)
            with new_file(rows) as out:
                left_out = _write(start, out, options, watch or Watch())
                check()
                write_file(skipped, json.dumps(vars(left_out)).encode())
        except FileError as error:
            raise DataError(f"{name} can't be cached in '{folder}': {error}") from error
    left_out = Skipped(**json.loads(skipped.read_text()))
    if notes is not None:
        notes += [f"{name}: {note}" for note in left_out.notes]
        notes += [left_out.note(name)] if left_out.count else []
    return datasets.Dataset.from_file(str(rows))


def _write(start: Start, out: BinaryIO, options: DataOptions, watch: Watch) -> Skipped:
    """Write rows to an Arrow file. They are read once, or twice where later rows widen the type of a column."""
    import pyarrow as pa  # type: ignore[import-untyped]

    schema = pa.schema([])
    while True:
        with start() as (source, numbered), _Bar(watch, source) as bar:
            out.seek(0)
            out.truncate()
            fit = Fit(source.name, schema, options.skip_bad_rows)
            if _stream(fit, _chunks(source, numbered, bar), out):
                fit.skipped.unit, fit.skipped.notes = source.unit, source.notes
                return fit.skipped
            schema = fit.schema


def _stream(fit: Fit, chunks: Iterable[list[tuple[int, Row | BadRow]]], out: Any) -> bool:
    """Write chunks of rows; return whether the column types of the first chunk fit all others."""
    import pyarrow as pa

    writer = first = None
    for chunk in chunks:
        batch = fit.batch(chunk)
        if batch is None:
            continue
        if writer is None:
            writer, first = pa.ipc.new_stream(out, batch.schema), batch.schema
        if batch.schema == first:
            writer.write_batch(batch)
    if writer is None:
        if fit.skipped.count:
            raise DataError(f"no row of {fit.name} can be used: {fit.skipped.note(fit.name)}")
        raise DataError(f"{fit.name}: no rows")
    writer.close()
    return bool(fit.schema == first)


def _chunks(source: Source, numbered: NumberedRows, bar: _Bar) -> Iterator[list[tuple[int, Row | BadRow]]]:
    """Yield a thousand rows at a time, fewer where they are long."""
    chunk: list[tuple[int, Row | BadRow]] = []
    for item in numbered:
        chunk.append(item)
        if len(chunk) == 1000 or source.position() - bar.reached > 1 << 24:
            yield chunk
            bar.move(source.position())
            chunk = []
    if chunk:
        yield chunk


SLOW = 2.0
"""The seconds after which a progress bar is shown."""


class _Bar(ExitStack):
    """Show a progress bar where reading takes long."""

    def __init__(self, watch: Watch, source: Source) -> None:
        super().__init__()
        self.watch, self.source = watch, source
        self.reached = self.shown = 0
        self.since = time.monotonic()
        self.bar: Watch | None = None

    def move(self, reached: int) -> None:
        self.reached = reached
        if self.bar is None and time.monotonic() - self.since > SLOW:
            self.bar = self.enter_context(self.watch.bar(f"reading {Path(self.source.name).name}", self.source.size))
        if self.bar is not None:
            self.bar.advance(reached - self.shown)
            self.shown = reached


class Fit:
    """Give each column one type, as wide as its rows need, and sort out the rows that don't fit the rows before."""

    def __init__(self, name: str, schema: Any, skip: bool) -> None:
        self.name, self.schema, self.skip = name, schema, skip
        self.skipped = Skipped()

    def batch(self, chunk: list[tuple[int, Row | BadRow]]) -> Any:
        """Return the rows of a chunk as a record batch, or None where all are bad; `schema` is widened by them."""
        bad = [(line, row.reason) for line, row in chunk if isinstance(row, BadRow)]
        good = [(line, {**_with_nulls(row), LINE: line}) for line, row in chunk if not isinstance(row, BadRow)]
        batch = None
        while good and batch is None:
            try:
                batch = _record([row for _, row in good], self.schema)
            except UNFIT:
                good, unfit = self._sifted(good)
                bad += unfit
        if bad:
            self._skip(bad)
        if batch is not None:
            self.schema = batch.schema
        return batch

    def _sifted(self, rows: list[tuple[int, Row]]) -> tuple[list[tuple[int, Row]], list[tuple[int, str]]]:
        good, bad = [], []
        for line, row in rows:
            try:
                self.schema = _record([row], self.schema).schema
                good.append((line, row))
            except UNFIT as error:
                bad.append((line, _misfit(row, self.schema, error)))
        return good, bad

    def _skip(self, bad: list[tuple[int, str]]) -> None:
        bad.sort()
        if not self.skip:
            line, reason = bad[0]
            raise DataError(f"{self.name}:{line}: {reason}")
        for line, reason in bad:
            self.skipped.add(line, reason)


UNFIT = (ValueError, TypeError, OverflowError, NotImplementedError)
"""What pyarrow raises for a value that is not of a column's type; its own errors are subclasses of these."""


def _with_nulls(row: Row) -> Row:
    """Return a row with null for NaN, which pandas writes where a value is missing."""
    if any(isinstance(value, float) and value != value for value in row.values()):
        return {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
    return row


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
    wide = pa.unify_schemas([schema, batch.schema], promote_options="permissive")
    return batch if batch.schema == wide else pa.RecordBatch.from_pydict(columns, schema=wide)


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
                kind = _words(pa.array([value]).type)
            except UNFIT:
                return f"{name} is {shown}: {_plain(column_error)}"
            if not before or kind == _words(before[0].type):
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
