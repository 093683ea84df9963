"""Metrics of predictions, each with the interval that another sample of as many rows would give.

They need no network and no model: truth and predictions in, numbers out. numpy and the rest are imported on use.
"""

from __future__ import annotations

from .answers import best_threshold, squad
from .bootstrap import Metrics
from .labels import classification, confusion_matrix, label_table, multilabel
from .spans import entities, entity_spans, entity_table
from .texts import text
from .values import perplexity, regression

__all__ = [
    "Metrics",
    "best_threshold",
    "classification",
    "confusion_matrix",
    "entities",
    "entity_spans",
    "entity_table",
    "label_table",
    "multilabel",
    "perplexity",
    "regression",
    "squad",
    "text",
]
