"""Read rows from tables: Parquet and Arrow, as datasets writes them or as others do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...errors import DataError
from .annotations import annotated
from .source import BadRow, NumberedRows, Source


def read_parquet(source: Source) -> NumberedRows:
    """Read a Parquet file."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    def batches(file: Any) -> Iterator[Any]:
        count = 0
        for batch in file.iter_batches(batch_size=1000):
            yield batch
            count += len(batch)
            source.reached = source.size * count // max(file.metadata.num_rows, 1)

    try:
        with pq.ParquetFile(source.path) as file:
            yield from annotated(source, table_rows(source, _features(source, file.schema_arrow), batches(file)))
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: metadata that datasets can't read
        raise DataError(f"{source.name}: a Parquet file was expected: {str(error).splitlines()[0]}") from error


def read_arrow(source: Source) -> NumberedRows:
    """Read an Arrow file, or an Arrow stream as datasets writes it; Feather V2 is the file format."""
    import pyarrow as pa

    def file_batches(reader: Any) -> Iterator[Any]:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
            source.reached = source.size * (i + 1) // reader.num_record_batches

    def stream_batches(reader: Any, file: Any) -> Iterator[Any]:
        for batch in reader:
            yield batch
            source.reached = file.tell()

    try:
        with pa.memory_map(source.path) as file:
            if file.read(4) == b"FEA1":
                raise ValueError("this is Feather V1; write it as V2 (version=2) or as Parquet")
            file.seek(0)
            try:
                reader = pa.ipc.open_file(file)
                batches = file_batches(reader)
            except pa.ArrowInvalid:
                file.seek(0)
                reader = pa.ipc.open_stream(file)
                batches = stream_batches(reader, file)
            valid = map(_validated, batches)
            slices = (batch.slice(start, 1000) for batch in valid for start in range(0, len(batch), 1000))
            yield from annotated(source, table_rows(source, _features(source, reader.schema), slices))
    except (pa.ArrowException, OSError, ValueError) as error:  # an empty file can't be mapped: ValueError
        raise DataError(f"{source.name}: an Arrow file was expected: {str(error).splitlines()[0]}") from error


def _validated(batch: Any) -> Any:
    """Return a batch whose offsets and lengths are those of its buffers; Arrow doesn't check those of a file."""
    batch.validate(full=True)
    return batch


def _features(source: Source, schema: Any) -> Mapping[str, Any]:
    """Return the features that datasets wrote into a schema, such as class names; empty where it wrote none."""
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{source.name}: two columns have the name '{twice}'")
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    features: Mapping[str, Any] = Features.from_arrow_schema(schema)
    return features


def table_rows(source: Source, features: Mapping[str, Any], batches: Iterable[Any]) -> NumberedRows:
    """Yield the rows of Arrow batches, numbered from 1, with class names in the place of class numbers."""
    source.unit = "row"
    namers = {name: namer for name, feature in features.items() if (namer := _namer(feature))}
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            try:
                yield number, row | {name: namer(row[name]) for name, namer in namers.items()}
            except IndexError as error:
                yield number, BadRow(str(error))


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """Return a function that replaces class numbers in a column's values by names, or None for other columns."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        return lambda value: _class_name(feature.names, value)
    if isinstance(feature, List | LargeList) and (inner := _namer(feature.feature)):
        return lambda values: None if values is None else [inner(value) for value in values]
    if isinstance(feature, dict) and (fields := {k: n for k, f in feature.items() if (n := _namer(f))}):
        return lambda value: None if value is None else value | {k: namer(value[k]) for k, namer in fields.items()}
    return None


def _class_name(names: list[str], value: int | None) -> str | None:
    if value is None or value == -1:  # how datasets writes an unknown label
        return None
    if not 0 <= value < len(names):
        raise IndexError(f"class {value}, but the classes are 0 to {len(names) - 1}: {', '.join(names[:6])}")
    return names[value]
