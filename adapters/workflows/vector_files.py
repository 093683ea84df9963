"""Answers in files for other programs: a matrix of vectors (npy), and a table of rows and answers (parquet)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import DataError

Records = Iterator[list[dict[str, Any]]]
"""Rows with the fields of their answers, one chunk at a time."""
VECTOR = "embedding"


def write_npy(chunks: Records, file: BinaryIO) -> None:
    """Write the vectors of all rows as a matrix of float32, (rows, features).

    Raises `DataError` where an answer isn't a vector.
    """
    import numpy as np

    vectors = []
    for chunk in chunks:
        for record in chunk:
            name = next((n for n in (f"predicted_{VECTOR}", VECTOR) if n in record), None)
            if name is None:
                raise DataError("a .npy file holds vectors of texts, and the answers are none; use .jsonl or .parquet")
            vectors.append(np.asarray(record[name], dtype=np.float32))
    buffer = io.BytesIO()  # numpy writes to a file past its `write`
    np.save(buffer, np.stack(vectors), allow_pickle=False)
    file.write(buffer.getvalue())


def write_parquet(chunks: Records, file: BinaryIO) -> None:
    """Write rows and answers as a table; vectors are lists of float32.

    Raises `DataError` for columns of mixed types.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    writer = None
    try:
        for chunk in chunks:
            try:
                table = _table(chunk, None if writer is None else writer.schema)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(f"these rows are no table: {' '.join(str(error).split())}; use .jsonl") from error
            if writer is None:
                writer = parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _table(records: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    if schema is None:
        table = pa.Table.from_pylist(records)
        fields = [pa.field(f.name, pa.list_(pa.float32())) if f.name.endswith(VECTOR) else f for f in table.schema]
        schema = pa.schema(fields)
    return pa.Table.from_pylist(records, schema)


WRITERS = {"npy": write_npy, "parquet": write_parquet}
"""The function that writes records to a file, by format."""
