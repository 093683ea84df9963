"""Measure an adapter's search of a corpus against judgements: what `adapt eval --corpus` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.judgements import Judgements, read_judgements
from ..data.readers import ReadOptions
from ..data.streams import from_file
from ..errors import DataError, OptionError, unknown
from ..metrics import Metrics, judged_retrieval
from ..tasks.columns import first_of
from ..watch import Watch
from .search import similarity_task, text_column, text_in, vectors_of

if TYPE_CHECKING:
    from ..pool import Pool

IDS = ("_id", "id", "docid", "doc_id", "corpus-id", "query-id", "qid", "query_id", "pid")
"""The usual columns of ids."""
_TITLE, _TEXT = "title", "text"


@dataclass(frozen=True)
class Collection:
    """The files of a retrieval test: a corpus, queries, and which documents are relevant to which query."""

    corpus: str
    queries: str
    qrels: str

    @classmethod
    def of(cls, corpus: str, queries: str | None, qrels: str | None) -> Collection:
        """Return the files that options name; of a folder in BEIR's layout, those that they don't name."""
        folder = Path(corpus)
        if folder.is_dir():
            corpus = str(folder / "corpus.jsonl")
            queries = queries or str(folder / "queries.jsonl")
            qrels = qrels or str(folder / "qrels" / "test.tsv")
        for flag, path in (("--queries", queries), ("--qrels", qrels)):
            if path is None:
                raise OptionError(f"--corpus {corpus} without {flag}: give the file, or a folder in BEIR's layout")
        return cls(corpus, str(queries), str(qrels))


@dataclass(frozen=True)
class RetrievalReport:
    """Metrics of an adapter on a retrieval test."""

    name: str
    collection: Collection
    metrics: Metrics
    documents: int
    remarks: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        from ..evaluation.evaluate import metrics_plain

        files = vars(self.collection)
        remarks = {"remarks": self.remarks} if self.remarks else {}
        return {"adapter": self.name, **files, "documents": self.documents, **metrics_plain(self.metrics), **remarks}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for reading: each metric with its 95 % interval."""
        intervals, title = self.metrics.intervals, f"{self.metrics.n:,} queries, {self.documents:,} documents"
        rows = [[n, f"{v:.4f}", "{:.4f} to {:.4f}".format(*intervals[n])] for n, v in self.metrics.values.items()]
        return [title, "value", "95 % interval"], rows


def evaluate_retrieval(
    pool: Pool, name: str, collection: Collection, *, column: str | None = None, watch: Watch | None = None
) -> RetrievalReport:
    """Search the corpus by an adapter's vectors for each query that has judgements, and measure the results.

    `column` is the corpus' column of texts; by default of a document with a title, that precedes its text. Raises
    `DataError` where ids are missing or occur twice, or no query has judgements.
    """
    watch = watch or Watch()
    judgements = read_judgements(collection.qrels)
    corpus = _texts(pool, name, collection.corpus, column)
    queries = _texts(pool, name, collection.queries, None)
    remarks = _remarks(collection, corpus, queries, judgements)
    for remark in remarks:
        watch.note("remark", remark)
    measured = [query for query in queries if query in judgements]
    if not measured:
        raise DataError(f"{collection.qrels} has no judgement of a query in {collection.queries}")
    numbers = {document: i for i, document in enumerate(corpus)}
    metrics = judged_retrieval(
        vectors_of(pool, name, [queries[query] for query in measured], watch),
        vectors_of(pool, name, list(corpus.values()), watch),
        [{numbers[d]: r for d, r in judgements[query].items() if d in numbers} for query in measured],
        [list(judgements[query].values()) for query in measured],
    )
    return RetrievalReport(name, collection, metrics, len(corpus), remarks)


def _texts(pool: Pool, name: str, file: str, column: str | None) -> dict[str, str]:
    """Return the texts of a file by id."""
    stream = from_file(file, ReadOptions())
    rows = [(line, row) for line, row in stream if isinstance(row, Mapping)]
    if not rows:
        raise DataError(f"{file}: no rows")
    names = list(rows[0][1])
    ids = first_of(IDS, names)
    if ids is None:
        raise DataError(f"{file}: {unknown('column of ids', IDS[0], names, known_as='there are')}")
    titled = column is None and {_TITLE, _TEXT} <= set(names)
    column = _TEXT if titled else text_column(column, similarity_task(pool, name), names, file)
    texts: dict[str, str] = {}
    for line, row in rows:
        key = str(row.get(ids, ""))
        if not key or key in texts:
            raise DataError(f"{stream.at(line)}: {ids} {f'{key!r} occurs twice' if key else 'is empty'}")
        title = str(row.get(_TITLE) or "") if titled else ""
        texts[key] = f"{title} {row.get(column) or ''}".strip() if title else text_in(row, column, stream.at(line))
    return texts


def _remarks(
    files: Collection, corpus: Mapping[str, str], queries: Mapping[str, str], judgements: Judgements
) -> list[str]:
    unjudged = [query for query in queries if query not in judgements]
    unknown_queries = [query for query in judgements if query not in queries]
    missing = {d for query in judgements if query in queries for d, r in judgements[query].items() if d not in corpus}
    none = [query for query in queries if query in judgements and max(judgements[query].values()) <= 0]
    counts = (
        (f"{files.queries}: %s without judgements ignored", unjudged, "queries"),
        (f"{files.qrels}: judgements of %s that {files.queries} lacks ignored", unknown_queries, "queries"),
        (f"{files.qrels}: %s that {files.corpus} lacks count as not retrieved", sorted(missing), "documents"),
        (f"{files.qrels}: %s without a relevant document ignored", none, "queries"),
    )
    return [text % _counted(ids, kind) for text, ids, kind in counts if ids]


def _counted(ids: Sequence[str], kind: str) -> str:
    noun = kind if len(ids) != 1 else {"queries": "query", "documents": "document"}[kind]
    return f"{len(ids):,} {noun}, first '{ids[0]}',"
