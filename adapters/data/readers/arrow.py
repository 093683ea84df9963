"""Read rows from tables: Parquet, Arrow, and what datasets made of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...errors import DataError
from .source import Bad, Found, Source


def read_parquet(source: Source) -> Found:
    """Read a Parquet file."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    def batches(file: Any) -> Iterator[Any]:
        done = 0
        for batch in file.iter_batches(batch_size=1000):
            yield batch
            done += len(batch)
            source.reached = source.size * done // max(file.metadata.num_rows, 1)

    try:
        with pq.ParquetFile(source.name) as file:
            yield from table_rows(source, _features(source, file.schema_arrow), batches(file))
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a note of datasets that it can't read
        raise DataError(f"{source.name}: a Parquet file was expected: {str(error).splitlines()[0]}") from error


def read_arrow(source: Source) -> Found:
    """Read an Arrow file, or a stream as datasets writes them; Feather V2 is the same."""
    import pyarrow as pa

    def of_file(reader: Any) -> Iterator[Any]:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
            source.reached = source.size * (i + 1) // reader.num_record_batches

    def of_stream(reader: Any, file: Any) -> Iterator[Any]:
        for batch in reader:
            yield batch
            source.reached = file.tell()

    try:
        with pa.memory_map(source.name) as file:
            try:
                reader = pa.ipc.open_file(file)
                batches = of_file(reader)
            except pa.ArrowInvalid:
                file.seek(0)
                reader = pa.ipc.open_stream(file)
                batches = of_stream(reader, file)
            few = (batch.slice(start, 1000) for batch in batches for start in range(0, len(batch), 1000))
            yield from table_rows(source, _features(source, reader.schema), few)
    except (pa.ArrowException, OSError, ValueError) as error:  # an empty file can't be mapped: ValueError
        raise DataError(f"{source.name}: an Arrow file was expected: {str(error).splitlines()[0]}") from error


def _features(source: Source, schema: Any) -> Mapping[str, Any]:
    """Return what datasets noted of the columns, the names of classes above all; nothing where it wrote no note."""
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{source.name}: there are two columns '{twice}'")
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    features: Mapping[str, Any] = Features.from_arrow_schema(schema)
    return features


def table_rows(source: Source, features: Mapping[str, Any], batches: Iterable[Any]) -> Found:
    """Yield the rows of Arrow batches, numbered from 1, with the names of classes for their numbers."""
    source.unit = "row"
    namers = {name: namer for name, feature in features.items() if (namer := _namer(feature))}
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            try:
                yield number, row | {name: namer(row[name]) for name, namer in namers.items()}
            except IndexError as error:
                yield number, Bad(str(error))


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """Return what puts names for the class numbers in a column's values; None where there are none."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        return lambda value: _class_name(feature.names, value)
    if isinstance(feature, List | LargeList) and (inner := _namer(feature.feature)):
        return lambda values: None if values is None else [inner(value) for value in values]
    if isinstance(feature, dict) and (fields := {k: n for k, f in feature.items() if (n := _namer(f))}):
        return lambda value: None if value is None else value | {k: namer(value[k]) for k, namer in fields.items()}
    return None


def _class_name(names: list[str], value: int | None) -> str | None:
    if value is None or value == -1:  # how datasets writes that the label isn't known
        return None
    if not 0 <= value < len(names):
        raise IndexError(f"class {value}, but the classes are 0 to {len(names) - 1}: {', '.join(names[:6])}")
    return names[value]
