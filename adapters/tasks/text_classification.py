"""Text classification: one label for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..data import LINE
from ..errors import DataError, unknown
from .task import Rows, Task

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("text", "text_pair"),
)
TEXTS = ("text", "sentence", "review", "utterance", "content", "query", "message", "tweet", "comment")
LABELS = ("label", "labels", "category", "intent", "class", "topic", "target", "sentiment", "gold_label")


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """Choose one of several labels for a text or a pair of texts."""

    name: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    best: ClassVar[str] = "accuracy"

    text_column_name: Annotated[
        tuple[str, ...], "column of the text, or two separated by a comma", "--text-column", "--text-column-names"
    ] = ()
    label_column_name: Annotated[str | None, "column of the label", "--label-column"] = None
    labels: Annotated[tuple[str, ...], "the labels in order; by default those of the training rows, sorted"] = ()

    def with_columns(self, names: Sequence[str]) -> Self:
        names = [name for name in names if name != LINE]
        for name in (*self.text_column_name, *filter(None, [self.label_column_name])):
            if name not in names:
                raise DataError(unknown("column", name, names, known_as="there are"))
        label = self.label_column_name or _first(LABELS, names, without=self.text_column_name)
        texts = self.text_column_name or _guess_texts([name for name in names if name != label])
        if label is None and len(names) == len(texts) + 1:
            label = next(name for name in names if name not in texts)
        if not texts:
            raise DataError(f"which column is the text? give --text-column-name; there are {', '.join(names)}")
        if label is None:
            raise DataError(f"which column is the label? give --label-column-name; there are {', '.join(names)}")
        return replace(self, text_column_name=tuple(texts), label_column_name=label)

    def describe_columns(self) -> str:
        return f"{' + '.join(self.text_column_name)} -> {self.label_column_name}"

    def summary(self) -> str:
        shown = ", ".join(self.labels[:6]) + (", …" if len(self.labels) > 6 else "")
        return f"{len(self.labels)} labels: {shown}"

    def fit(self, train: Dataset) -> Self:
        if self.labels:
            return self
        found = sorted({str(value) for value in train[self.label_column_name]}, key=_natural)
        if len(found) < 2:
            raise DataError(
                f"all {len(train)} training rows have the label '{found[0]}' in column '{self.label_column_name}'; "
                "to learn anything, two are needed"
            )
        return replace(self, labels=tuple(found))

    def check(self, data: Dataset, file: str) -> None:
        for column in (*self.text_column_name, self.label_column_name):
            if column not in data.column_names:
                raise DataError(f"{file}: " + unknown("column", str(column), _visible(data), known_as="there are"))
            for line, value in zip(data[LINE], data[column], strict=True):
                if value is None or not str(value).strip():
                    raise DataError(f"{file}:{line}: {column} is empty")
        known = set(self.labels)
        for line, value in zip(data[LINE], data[self.label_column_name], strict=True):
            if known and str(value) not in known:
                raise DataError(f"{file}:{line}: " + unknown("label", str(value), known, known_as="in training"))

    def config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def encode(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        texts = [list(map(str, rows[column])) for column in self.text_column_name]
        features = dict(tokenizer(*texts, truncation=True, max_length=self.max_seq_length))
        if labelled:
            index = {label: i for i, label in enumerate(self.labels)}
            features["labels"] = [index[str(value)] for value in rows[str(self.label_column_name)]]
        return features

    def collate(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        from transformers import DataCollatorWithPadding

        padding: Callable[[list[dict[str, Any]]], dict[str, Any]] = DataCollatorWithPadding(tokenizer)
        return padding

    def metrics(self, logits: np.ndarray, data: Dataset) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score

        index = {label: i for i, label in enumerate(self.labels)}
        truth = [index[str(value)] for value in data[self.label_column_name]]
        guess = logits.argmax(-1)
        return {
            "accuracy": float(accuracy_score(truth, guess)),
            "f1_macro": float(f1_score(truth, guess, average="macro", zero_division=0.0)),
        }

    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        from scipy.special import softmax

        shares = softmax(logits.astype("float64"), axis=-1)
        return [{"label": self.labels[row.argmax()], "score": float(row.max())} for row in shares]

    def rows(self, texts: Sequence[str]) -> Rows:
        parts = [text.split("\t") for text in texts]
        columns = self.text_column_name
        for text, part in zip(texts, parts, strict=True):
            if len(columns) > 1 and len(part) != len(columns):
                raise DataError(f"'{text}': {' and '.join(columns)} were expected, separated by a tab")
        if len(columns) == 1:
            return {columns[0]: list(texts)}
        return {column: [part[i] for part in parts] for i, column in enumerate(columns)}

    def strata(self, data: Dataset) -> list[str] | None:
        return [str(value) for value in data[self.label_column_name]]


def _visible(data: Dataset) -> list[str]:
    return [name for name in data.column_names if name != LINE]


def _first(wanted: Sequence[str], names: Sequence[str], without: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in names if name not in without}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _guess_texts(names: Sequence[str]) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in names}
    for pair in PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    one = _first(TEXTS, names, without=()) or (names[0] if len(names) == 1 else None)
    return (one,) if one else ()


def _natural(label: str) -> tuple[bool, int, str]:
    """Sort 2 before 10, and numbers before words."""
    return (not label.isdigit(), int(label) if label.isdigit() else 0, label)
