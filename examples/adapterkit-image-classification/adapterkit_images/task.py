"""The task image-classification: choose a label for an image."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from adapterkit.errors import DataError, unknown
from adapterkit.tasks import Task

from .pixels import Pixels, decoded

COLUMNS = ("image", "img", "file", "file_name", "pixel_values")


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Task):
    """Choose a label for an image: a file's path, its bytes, or both as a Parquet file of datasets has them."""

    name: ClassVar[str] = "image-classification"
    modality: ClassVar[str] = Pixels.name
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    best: ClassVar[str] = "accuracy"
    probe_unit: ClassVar[str] = "text"
    cuts_prompts: ClassVar[bool] = False

    image_column_name: Annotated[str, "column of the image", "--image-column"] = ""
    label_column_name: Annotated[str, "column of the label", "--label-column"] = ""
    labels: Annotated[tuple[str, ...], "the labels in order; by default those of the training rows, sorted"] = ()

    # ---- columns and rows

    @classmethod
    def fits(cls, first):
        return any(name in first for name in COLUMNS) and "label" in first

    def with_columns(self, names):
        visible = [name for name in names if not name.startswith("__")]
        image = self.image_column_name or next((name for name in COLUMNS if name in visible), None)
        label = self.label_column_name or next((name for name in ("label", "labels") if name in visible), None)
        for flag, column in (("--image-column", image), ("--label-column", label)):
            if column is None or column not in visible:
                raise DataError(unknown(f"column for {flag}", str(column or ""), visible, known_as="there are"))
        return replace(self, image_column_name=image, label_column_name=label)

    def describe_columns(self):
        return f"{self.image_column_name} -> {self.label_column_name}"

    def summary(self):
        return ", ".join(self.labels)

    def fit(self, train):
        labels = self.labels or tuple(sorted({str(label) for label in train[self.label_column_name]}))
        if len(labels) < 2:
            raise DataError(f"all training rows have the label '{labels[0]}'; two are needed")
        return replace(self, labels=labels)

    def check(self, data, file):
        for i, reason in self.faults(data, file):
            raise DataError(f"{file}:{data['__line__'][i]}: {reason}")

    def faults(self, data, file):
        visible = [name for name in data.column_names if not name.startswith("__")]
        for column in (self.image_column_name, self.label_column_name):
            if column not in visible:
                raise DataError(f"{file}: {unknown('column', column, visible, known_as='there are')}")
        for i, row in enumerate(data):
            label = row[self.label_column_name]
            try:
                decoded(_bytes(row[self.image_column_name]))
            except ValueError as error:
                yield i, f"{self.image_column_name}: {error}"
                continue
            if label is None or label == "":
                yield i, f"{self.label_column_name} is empty"
            elif self.labels and str(label) not in self.labels:
                yield i, unknown("label", str(label), self.labels, known_as="in training")

    def labels_by_row(self, data):
        return ([str(label)] for label in data[self.label_column_name])

    def strata(self, data):
        return [str(label) for label in data[self.label_column_name]]

    def rows(self, texts):
        return {self.image_column_name: list(texts)}

    def accepts(self, column, value):
        image = isinstance(value, str | bytes) or (isinstance(value, Mapping) and bool({"bytes", "path"} & set(value)))
        return None if image else "the path or the bytes of an image"

    def requested(self, row):
        value = row.get(self.image_column_name) if isinstance(row, Mapping) else row
        value = value.get("bytes") if isinstance(value, Mapping) else value
        try:
            return {self.image_column_name: value if isinstance(value, bytes) else _encoded(value)}
        except ValueError as error:
            raise DataError(f"{error}; no path is read") from error

    # ---- the model

    def config(self):
        ids = dict(enumerate(self.labels))
        return {"num_labels": len(ids), "id2label": ids, "label2id": {label: i for i, label in ids.items()}}

    def matching_head(self, count, names):
        return self if self.labels else replace(self, labels=tuple(names.get(i, f"LABEL_{i}") for i in range(count())))

    # ---- features and outputs

    def tokenize(self, rows, tokenizer, *, labelled):
        try:
            features = {"image": [_bytes(value) for value in rows[self.image_column_name]]}
            for data in features["image"]:
                decoded(data)
        except ValueError as error:
            raise DataError(f"{self.image_column_name}: {error}") from error
        if labelled:
            features["labels"] = [self.labels.index(str(label)) for label in rows[self.label_column_name]]
        return features

    def lengths(self, rows, tokenizer, *, labelled):
        return {}

    def collate(self, tokenizer, model):
        return functools.partial(_batch, Pixels(model.config, tokenizer))

    def loss(self, model, batch, *, label_smoothing=0.0):
        from torch.nn.functional import cross_entropy

        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        return cross_entropy(logits, batch["labels"].to(logits.device), label_smoothing=label_smoothing)

    def metrics(self, predictions, data):
        import numpy as np

        from adapterkit.metrics import bootstrap

        truth = np.array([self.labels.index(str(label)) for label in data[self.label_column_name]])
        right = np.stack(predictions).argmax(-1) == truth
        return bootstrap.measure(len(right), lambda weights: {"accuracy": weights @ right / weights.sum(-1)})

    def answers(self, predictions, data, tokenizer):
        return [each[0] for each in self._scores(predictions)]

    def candidates(self, outputs, features, data, tokenizer):
        return self._scores(outputs)

    def _scores(self, predictions):
        import numpy as np

        logits = np.stack(predictions).astype(float)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        pairs = [sorted(zip(self.labels, row.tolist(), strict=True), key=lambda pair: -pair[1]) for row in scores]
        return [[{"label": label, "score": score} for label, score in row] for row in pairs]


def _batch(pixels: Pixels, features: list[dict[str, Any]]) -> dict[str, Any]:
    """Return features as one batch: pixel_values, and labels where there are any."""
    import torch

    labels = {"labels": torch.tensor([f["labels"] for f in features])} if "labels" in features[0] else {}
    return {**pixels.tensors([f["image"] for f in features], "cpu"), **labels}


def _bytes(value: Any) -> bytes:
    """Return an encoded image by its path, its bytes, or a mapping of both. Raises `ValueError` for any other value."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"the path or the bytes of an image were expected, got {str(value)[:40]!r}")
    if value.startswith("data:"):
        return _encoded(value)
    try:
        return Path(value).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"'{value[:80]}' can't be read: {getattr(error, 'strerror', None) or error}") from error


def _encoded(value: Any) -> bytes:
    """Return the bytes of base64, alone or in a data URL. Raises `ValueError` for anything else, such as a path."""
    try:
        return base64.b64decode(value.partition(";base64,")[2] if value.startswith("data:") else value, validate=True)
    except (AttributeError, ValueError):
        raise ValueError(f"an image as base64 or as a data URL was expected, got {str(value)[:40]!r}") from None
