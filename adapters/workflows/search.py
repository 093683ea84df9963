"""Search a corpus with an adapter for sentence similarity: what `adapt search` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.input_rows import TEXT, InputRows
from ..errors import DataError, TaskError, unknown
from ..metrics import best_first
from ..tasks import SentenceSimilarity
from ..tasks.columns import TEXTS, first_of
from ..tasks.values import is_empty, text_of
from ..watch import Watch

if TYPE_CHECKING:
    import numpy as np

    from ..pool import Pool

_CHUNK = 1024


@dataclass(frozen=True)
class Hit:
    """A row of the corpus, and its similarity to a query."""

    score: float
    line: int
    row: Mapping[str, Any]


def search(
    pool: Pool,
    name: str,
    queries: Sequence[str],
    corpus: InputRows,
    *,
    column: str | None = None,
    most: int = 10,
    watch: Watch | None = None,
) -> list[list[Hit]]:
    """Return for each query the rows of the corpus whose vectors are nearest by cosine, the nearest first.

    `column` is the corpus' column of texts. Raises `TaskError` where the adapter doesn't make vectors, and `DataError`
    where there is no such column, or a text is empty.
    """
    task = similarity_task(pool, name)
    rows = [(line, row) for line, row in corpus if isinstance(row, Mapping)]
    if not rows:
        raise DataError(f"{corpus.name}: no rows")
    column = text_column(column, task, list(rows[0][1]), corpus.name)
    texts = [text_in(row, column, corpus.at(line)) for line, row in rows]
    watch = watch or Watch()
    vectors = vectors_of(pool, name, texts, watch)
    scores = vectors_of(pool, name, list(queries), Watch()) @ vectors.T
    best = best_first(scores, most)
    return [[Hit(float(scores[i, k]), *rows[k]) for k in map(int, of_query)] for i, of_query in enumerate(best)]


def similarity_task(pool: Pool, name: str) -> SentenceSimilarity:
    """Return the task of an adapter that makes vectors. Raises `TaskError` for another."""
    task = pool.task(name)
    if not isinstance(task, SentenceSimilarity):
        raise TaskError(f"adapter '{name}' is for {task.name}; a search needs one for {SentenceSimilarity.name}")
    return task


def text_column(chosen: str | None, task: SentenceSimilarity, names: list[str], file: str) -> str:
    """Return the column of texts: `chosen`, or the usual one. Raises `DataError` where there is none, or several."""
    if chosen is not None and chosen not in names:
        raise DataError(f"{file}: " + unknown("column", chosen, names, known_as="there are"))
    usual = [*task.text_column_name, TEXT, *TEXTS]
    column = chosen or first_of(usual, names) or (names[0] if len(names) == 1 else None)
    if column is None:
        raise DataError(f"{file}: which column is the text? give --text-column; there are {', '.join(names)}")
    return column


def text_in(row: Mapping[str, Any], column: str, place: str) -> str:
    """Return the text of a row. Raises `DataError` with its place where it has none."""
    value = row.get(column)
    if is_empty(value):
        raise DataError(f"{place}: {column} is empty")
    try:
        return text_of(value)
    except ValueError as error:
        raise DataError(f"{place}: {column} {error}") from error


def vectors_of(pool: Pool, name: str, texts: list[str], watch: Watch) -> np.ndarray:
    """Return the vectors of texts, (texts, features), of length 1."""
    import numpy as np

    first, vectors = str(pool.task(name).input_columns[0]), []
    with watch.bar("vectors", len(texts)) as bar:
        for start in range(0, len(texts), _CHUNK):
            some = [{first: text} for text in texts[start : start + _CHUNK]]
            vectors += [answer["embedding"] for answer in pool.predict(some, adapter=name)]
            bar.advance(len(some))
    matrix = np.asarray(vectors, dtype=np.float32)
    unit: np.ndarray = matrix / np.maximum(np.linalg.norm(matrix, axis=-1, keepdims=True), 1e-12)
    return unit
