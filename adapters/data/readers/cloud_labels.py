"""Read labels of texts as the annotation services of clouds export them: SageMaker Ground Truth and Vertex AI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, Row

Counts = Counter[tuple[str, str]]
_NONE = ("text without a label left out", "texts without a label left out")
_METADATA = "-metadata"
_VERTEX = ("classificationAnnotation", "classificationAnnotations", "sentimentAnnotation")


def is_ground_truth(row: Row) -> bool:
    """Return whether an object is a text that a job of Ground Truth classified."""
    return isinstance(row.get("source"), str) and _job(row) is not None


def _job(row: Row) -> str | None:
    """Return the name of the first job whose metadata hold the names of classes."""
    return next(
        (
            name.removesuffix(_METADATA)
            for name, value in row.items()
            if name.endswith(_METADATA) and isinstance(value, Mapping) and {"class-name", "class-map"} & {*value}
        ),
        None,
    )


def ground_truth_text(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the text with the name of its class, or with a list of them where a job allows several."""
    job = str(_job(row))
    metadata = row[job + _METADATA]
    names = metadata.get("class-map")
    label: Any = [str(name) for name in names.values()] if isinstance(names, Mapping) else metadata.get("class-name")
    others = {key: value for key, value in row.items() if key not in ("source", job, job + _METADATA)}
    yield {"text": row["source"], "label": label, **others}


def is_vertex(row: Row) -> bool:
    """Return whether an object is a text of Vertex AI with labels, or with none in a file of them."""
    unlabelled = "dataItemResourceLabels" in row and "textSegmentAnnotations" not in row
    return isinstance(row.get("textContent"), str) and (unlabelled or any(key in row for key in _VERTEX))


def vertex_text(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the text with its label, its labels, or its sentiment."""
    one, several, sentiment = (row.get(key) for key in _VERTEX)
    label: Any = None
    if isinstance(one, Mapping):
        label = one.get("displayName")
    elif isinstance(several, list):
        label = [part.get("displayName") for part in several if isinstance(part, Mapping)]
    elif isinstance(sentiment, Mapping):
        label = sentiment.get("sentiment")
    if label is None and not every:
        left_out[_NONE] += 1
        return
    others = {
        key: value for key, value in row.items() if key not in ("textContent", "dataItemResourceLabels", *_VERTEX)
    }
    yield {"text": row["textContent"], "label": label, **others}
