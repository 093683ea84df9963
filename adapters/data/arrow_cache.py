"""Cache the rows of a file as an Arrow table on disk, keyed by the content of the file."""

from __future__ import annotations

import contextlib
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
from .column_types import LINE as LINE
from .column_types import Fit, Mixed
from .readers import VERSION, BadRow, NumberedRows, Row, Source
from .skipped import Skipped

if TYPE_CHECKING:
    from datasets import Dataset

Start = Callable[[], AbstractContextManager[tuple[Source, NumberedRows]]]


def cached_dataset(
    name: str,
    key: Mapping[str, Any],
    start: Start,
    options: DataOptions,
    watch: Watch | None,
    notes: list[str] | None,
    check: Callable[[], None] = lambda: None,
    mixed: dict[str, Mixed] | None = None,
) -> Dataset:
    """Return the rows that `start` opens as a data set, from the cache where they are there under `key`.

    Columns of several types are added to `mixed` and read as text; without it, rows that don't fit are bad.
    """
    import datasets

    identity = {**key, "version": VERSION, "skip_bad_rows": options.skip_bad_rows, "mixed": mixed is not None}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    # a folder for each: `Dataset.map` writes beside the rows, and each call lists the files that are there
    folder = Path(datasets.config.HF_DATASETS_CACHE, "adapterkit", digest)
    rows, skipped = folder / "rows.arrow", folder / "rows.json"
    if not (rows.exists() and skipped.exists()):
        try:
            check_writable(folder)
            with new_file(rows) as out:
                left_out, types = _write(start, out, options, watch or Watch(), None if mixed is None else {})
                check()
                described = {**vars(left_out), "mixed": {name: vars(column) for name, column in types.items()}}
                write_file(skipped, json.dumps(described).encode())
        except FileError as error:
            raise DataError(f"{name} can't be cached in '{folder.parent}': {error}") from error
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # empty where the rows couldn't be read
    described = json.loads(skipped.read_text())
    if mixed is not None:
        mixed |= {name: Mixed(**column) for name, column in described["mixed"].items()}
    left_out = Skipped(**{key: value for key, value in described.items() if key != "mixed"})
    if notes is not None:
        notes += [f"{name}: {note}" for note in left_out.notes]
        notes += [left_out.note(name)] if left_out.count else []
    try:
        return datasets.Dataset.from_file(str(rows))
    except ValueError as error:  # such as a NUL in the name of a column
        raise DataError(f"{name}: columns that can't be stored: {ascii(str(error))[:200]}") from error


def _write(
    start: Start, out: BinaryIO, options: DataOptions, watch: Watch, expected: Mapping[str, Any] | None
) -> tuple[Skipped, dict[str, Mixed]]:
    """Write rows to an Arrow file. They are read once, or twice where later rows widen the type of a column."""
    import pyarrow as pa  # type: ignore[import-untyped]

    schema = pa.schema([])
    while True:
        with start() as (source, numbered), _Bar(watch, source) as bar:
            out.seek(0)
            out.truncate()
            fit = Fit(source.name, schema, options.skip_bad_rows, expected)
            fit.skipped.notes = source.notes  # to which the reader appends
            if _stream(fit, _chunks(source, numbered, bar), out):
                fit.skipped.unit = source.unit
                for column in fit.mixed.values():
                    column.unit = source.unit
                return fit.skipped, fit.mixed
            schema, expected = fit.schema, fit.expected


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
        raise DataError(f"{fit.name}: no rows" + (f" ({'; '.join(fit.skipped.notes)})" if fit.skipped.notes else ""))
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
