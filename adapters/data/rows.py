"""Rows in memory: texts, dicts, data frames and data sets as one list of rows, or as the splits of a run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..settings import DataOptions
from .column_types import LINE, Fit, Mixed, Parses, of_one_type
from .readers.source import BadRow, NumberedRows, Row, Source

if TYPE_CHECKING:
    from datasets import Dataset

    from .splits import Splits

MEMORY = "memory:"
"""The prefix of a split's name where its rows come from no file."""


def as_rows(rows: Any, *, skip_bad: bool = False) -> tuple[list[Any], bool]:
    """Return texts or rows as a list, and whether it was a single one: a text, or a dict of columns.

    Takes a text, a dict, a pandas DataFrame or Series, a `datasets.Dataset`, an Arrow table, or any iterable of texts
    and dicts. Raises `DataError` for anything else, such as a path. With `skip_bad`, the list holds bad rows as they
    are, and those of a table as `BadRow`.
    """
    if isinstance(rows, str | Mapping):
        return [rows], True
    if isinstance(rows, os.PathLike):
        raise DataError(f"texts or rows were expected, got the path '{os.fspath(rows)}'; `adapt predict` reads files")
    if (numbered := _table_rows("rows", rows)) is not None:
        return [row for _, row in (numbered if skip_bad else _valid("rows", numbered))], False
    if isinstance(rows, bytes | bytearray) or not isinstance(rows, Iterable):
        raise DataError(f"a text, a dict, or a list or data frame of them was expected, got {_kind(rows)}")
    listed = list(rows)
    if skip_bad:
        return listed, False
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, str | Mapping):
            pair = "; the fields of a pair are columns of a dict" if isinstance(row, tuple | list) else ""
            raise DataError(f"row {number}: a text or a dict was expected, got {_kind(row)} {str(row)[:40]!r}{pair}")
    return listed, False


def memory_splits(rows: Mapping[str, Any], options: DataOptions) -> Splits:
    """Return data sets of rows in memory by split, as `load` does of files.

    Each split is a `datasets.Dataset`, a pandas DataFrame, an Arrow table, or a list of dicts. `fingerprints` holds the
    SHA-256 of its rows. Raises `DataError` where rows are of another kind or don't fit together.
    """
    from .splits import Splits

    if rows.get("train") is None:
        others = " and ".join(split for split, values in rows.items() if values is not None)
        raise DataError(f"{others} rows without train rows; give train=, the rows to learn from")
    splits = Splits("train")
    for split, values in rows.items():
        if values is not None:
            mixed: dict[str, Mixed] = {}
            data = _dataset(values, MEMORY + split, options, splits.notes, mixed)
            splits.files[split], splits.fingerprints[split] = MEMORY + split, data._fingerprint
            splits.add(split, data, mixed, options)
    return splits


def memory_dataset(
    rows: Any,
    name: str,
    options: DataOptions | None = None,
    notes: list[str] | None = None,
    *,
    columns: Iterable[str] | None = None,
    parses: Parses | None = None,
) -> Dataset:
    """Return rows in memory as a data set whose fingerprint is the SHA-256 of its rows; nothing is written to disk.

    `columns` are those that must hold values of one type each, by default all. `parses`: see `of_one_type`.
    """
    options, notes, name = options or DataOptions(), [] if notes is None else notes, MEMORY + name
    if columns is None:
        return _dataset(rows, name, options, notes, None)
    mixed: dict[str, Mixed] = {}
    data = _dataset(rows, name, options, notes, mixed)
    return of_one_type(data, mixed, columns, name, notes, skip=options.skip_bad_rows, parses=parses)


def _dataset(rows: Any, name: str, options: DataOptions, notes: list[str], mixed: dict[str, Mixed] | None) -> Dataset:
    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]

    fit = Fit(name, pa.schema([]), options.skip_bad_rows, mixed)
    fit.skipped.unit = "row"
    batch = fit.batch(list(_rows(name, rows)))
    if batch is None:
        raise DataError(f"{name}: no rows")
    if mixed is not None:
        mixed |= {column: replace(m, unit="row") for column, m in fit.mixed.items()}
    if fit.skipped.count:
        notes.append(fit.skipped.note(name))
    table = pa.Table.from_batches([batch])
    return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=_digest(table))


def _rows(name: str, rows: Any) -> NumberedRows:
    """Return rows with their numbers, from 1."""
    split = name.removeprefix(MEMORY)
    if isinstance(rows, str | os.PathLike):
        raise DataError(f"{split} must hold rows, got '{rows}'; for a file, give {split}_file={str(rows)!r}")
    if (numbered := _table_rows(name, rows)) is not None:
        return numbered
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"{split} must be a datasets.Dataset, a pandas DataFrame or a list of dicts, got {_kind(rows)}")
    return enumerate(map(_row, rows), start=1)


def _row(row: Any) -> Row | BadRow:
    if not isinstance(row, Mapping):
        return BadRow(f"a dict of columns was expected, got {_kind(row)}: {str(row)[:40]!r}")
    if odd := [key for key in row if not isinstance(key, str)]:
        return BadRow(f"names of columns must be texts, got {odd[0]!r}")
    return dict(row)


def _table_rows(name: str, rows: Any) -> NumberedRows | None:
    """Return the rows of a data set, data frame or Arrow table; None for what is none of them."""
    if hasattr(rows, "features") and hasattr(rows, "with_format"):  # datasets.Dataset, which torch users may not have
        from .readers import table_rows

        visible = rows.remove_columns([LINE]) if LINE in (rows.column_names or ()) else rows
        count = len(rows) if hasattr(rows, "__len__") else 0  # an IterableDataset has none
        return table_rows(Source(name, count), visible.features or {}, visible.with_format("arrow").iter(1000))
    is_frame = hasattr(rows, "columns") and hasattr(rows, "iloc")  # of pandas
    # Arrow's own tables, Polars, DuckDB
    if not is_frame and (hasattr(rows, "iloc") or not hasattr(rows, "__arrow_c_stream__")):
        return None
    import pyarrow as pa

    from .readers import table_rows

    if is_frame:
        if twice := [column for column, again in zip(rows.columns, rows.columns.duplicated(), strict=True) if again]:
            raise DataError(f"{name.removeprefix(MEMORY)}: two columns of the data frame are named '{twice[0]}'")
        try:
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # a column with values of several types
            records = rows.astype(object).where(rows.notna(), None).to_dict("records")
            return enumerate(map(_row, records), start=1)
    else:
        rows = pa.table(rows)
    return table_rows(Source(name, len(rows)), {}, rows.to_batches(1000))


def _valid(name: str, numbered: NumberedRows) -> Iterator[tuple[int, Row]]:
    for number, row in numbered:
        if isinstance(row, BadRow):
            raise DataError(f"{name}:{number}: {row.reason}")
        yield number, row


def _digest(table: Any) -> str:
    """Return the SHA-256 of the rows as JSON, whatever they came in."""
    digest = hashlib.sha256()
    for batch in table.to_batches(1000):
        for row in batch.to_pylist():
            digest.update(json.dumps(row, default=str).encode() + b"\n")
    return digest.hexdigest()


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
