"""Sentence similarity: vectors of texts, near where the texts are alike."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.column_types import LINE
from ..errors import DataError, OptionError, TaskError
from ..settings import at_least
from .columns import (
    PAIRS,
    TEXTS,
    check_there,
    choose,
    each,
    first_of,
    require,
    split_fields,
    stream,
    usual_label,
    visible,
)
from .labels import label_text, number_in
from .nested import TENSORS, nested_batch
from .positives import label_number, positives
from .task import Rows, Task
from .values import is_empty, single_text_of, texts_of
from .windows import truncated

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor, nn

    from ..base.base import Base
    from ..metrics import Metrics

ANCHORS = ("anchor", "query", "question", "sentence", "text")
POSITIVES = ("positive", "pos", "positives")
_NEGATIVE = re.compile(r"(hard_?)?neg(ative)?s?[_-]?\d*")
_SCORES = ("score", "similarity", "similarity_score", "relatedness_score", "label", "labels")
PART = 32
"""The texts that run at a time, of similar length."""


@dataclass(frozen=True, kw_only=True)
class SentenceSimilarity(Task):
    """Learn vectors of texts, from pairs with scores, pairs or triplets of positives, or texts with a label."""

    name: ClassVar[str] = "sentence-similarity"
    new_head: ClassVar[bool] = False
    has_choices: ClassVar[bool] = True
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_column_name": ("sentence1", "sentence2"),
        "label_column_name": ("score",),
    }
    label_options: ClassVar[frozenset[str]] = Task.label_options | {
        *("loss_type", "scale", "margin", "matryoshka_dims", "mini_batch_size", "pooling", "normalize")
    }

    text_column_name: Annotated[
        tuple[str, ...], "columns of the texts: one, a pair, or an anchor, its positive and negatives", "--text-column"
    ] = ()
    label_column_name: Annotated[str | None, "column of a pair's score, or of a text's label", "--label-column"] = None
    loss_type: Annotated[
        Literal["auto", "multiple-negatives", "triplet", "cosent"], "loss (auto: by the columns)", "--loss"
    ] = "auto"
    scale: Annotated[float, "factor on cosines, the inverse of a temperature"] = 20.0
    margin: Annotated[float, "margin of the triplet loss, in cosines"] = 0.5
    matryoshka_dims: Annotated[tuple[str, ...], "further sizes of vectors to train, such as 192,96,48"] = ()
    mini_batch_size: Annotated[int, "texts whose activations are in memory at once (0: all)"] = 0
    pooling: Annotated[Literal["auto", "mean", "cls", "max"], "how tokens become a vector (auto: by the base)"] = "auto"
    normalize: Annotated[Literal["auto", "yes", "no"], "whether vectors have length 1 (auto: by the base)"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "margin", "mini_batch_size")
        if not 0 < self.scale < float("inf"):
            raise OptionError(f"scale must be finite and > 0, got {self.scale}")
        if wrong := [size for size in self.matryoshka_dims if not size.isdecimal() or int(size) < 1]:
            raise OptionError(f"matryoshka_dims must be integers >= 1, got {wrong[0]!r}")

    @property
    def best(self) -> str:  # type: ignore[override]
        """The metric by which the best epoch is chosen."""
        return "spearman" if self.has_scores else "ndcg_at_10"

    @property
    def has_scores(self) -> bool:
        """Whether a row is a pair with a score."""
        return self.label_column_name is not None and len(self.text_column_name) > 1

    @property
    def has_labels(self) -> bool:
        """Whether a row is a text with a label, and texts of one label are alike."""
        return self.label_column_name is not None and len(self.text_column_name) == 1

    @property
    def _sizes(self) -> list[int]:
        return [int(size) for size in self.matryoshka_dims]

    @property
    def input_columns(self) -> list[str]:
        """The columns that a row needs for a prediction: a text, and perhaps another to compare it with."""
        return list(self.text_column_name[:2])

    @property
    def optional_columns(self) -> frozenset[str]:
        """The second text of a pair: a text alone has a vector."""
        return frozenset(self.text_column_name[1:])

    def may_be_empty(self, column: str) -> bool:
        return column in self.text_column_name[1:]

    # ---- columns and rows

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        names = list(first)
        return first_of(POSITIVES, names) is not None and first_of(ANCHORS, names) is not None

    @classmethod
    def default_columns(cls) -> tuple[str, ...]:
        return cls.usual_columns["text_column_name"]

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, *self.text_column_name, self.label_column_name)
        texts = self.text_column_name or _guess(names)
        if not texts:
            choose("the text", "--text-column-name", None, names, ())
        chosen = self.label_column_name
        label = chosen or (first_of(_SCORES, names, texts) or usual_label(names, texts) if len(texts) < 3 else None)
        if len(texts) == 1:
            label = choose("the label", "--label-column-name", label, names, (), texts)
        if not chosen and len(texts) == 2 and first_of(POSITIVES, texts):
            label = None  # positives by the column's name
        if label in texts:
            raise DataError(f"column '{label}' can't be both the text and the label")
        return replace(self, text_column_name=tuple(texts), label_column_name=label)._checked()

    def _checked(self) -> Self:
        """Return the task; raises `OptionError` where the columns have nothing that the loss needs."""
        count = len(self.text_column_name)
        if self.has_scores and count != 2:
            raise OptionError(f"a score is of 2 texts, but --text-column-name names {count}")
        needs = {
            "cosent": ("pairs with a score", self.has_scores),
            "triplet": ("an anchor, a positive and a negative", count > 2),
            "multiple-negatives": ("positives, and these have scores", not self.has_scores),
        }
        if self.loss_type in needs and not needs[self.loss_type][1]:
            raise OptionError(f"--loss {self.loss_type} needs {needs[self.loss_type][0]}; {self.describe_columns()}")
        return self

    def describe_columns(self) -> str:
        texts = " + ".join(self.text_column_name)
        return f"{texts} -> {self.label_column_name}" if self.label_column_name else texts

    def summary(self) -> str:
        if self.has_scores:
            return "a score of each pair"
        return "texts of one label are alike" if self.has_labels else "the first two texts of a row are alike"

    def fit(self, train: Dataset) -> Self:
        if self.has_labels and not positives(self._labels(train)):
            raise DataError(f"no two training rows have the same label in column '{self.label_column_name}'")
        return self

    def _labels(self, rows: Dataset | Rows) -> list[str]:
        return [label_text(cell) for cell in stream(rows[str(self.label_column_name)])]

    def check(self, data: Dataset, file: str) -> None:
        for i, reason in self.faults(data, file):
            raise DataError(f"{file}:{data[LINE][i]}: {reason}")

    def faults(self, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
        label = [self.label_column_name] if self.label_column_name else []
        columns = [*self.text_column_name, *label]
        check_there(data, file, *columns)
        for i, cells in enumerate(each(data, *columns)):
            if reason := self._fault(dict(zip(columns, cells, strict=True))):
                yield i, reason

    def _fault(self, row: Mapping[str, Any]) -> str:
        for column, cell in row.items():
            if is_empty(cell):
                return f"{column} is empty"
            if column == self.label_column_name:
                if self.has_scores and number_in(cell) is None:
                    return f"{column} is '{cell}', but a number was expected"
                continue
            try:
                single_text_of(cell)
            except ValueError as error:
                return f"{column} {error}"
        return ""

    def labels_by_row(self, data: Dataset) -> Iterator[Sequence[str]]:
        return ([label] for label in self._labels(data)) if self.has_labels else iter(())

    def strata(self, data: Dataset) -> list[str] | None:
        return self._labels(data) if self.has_labels else None

    def rows(self, texts: Sequence[str]) -> Rows:
        fields = [text.split("\t") for text in texts]
        most = max(map(len, fields), default=1)
        if most == 1:
            return {self.text_column_name[0]: list(texts)}
        if most == 2 and len(self.text_column_name) == 1:
            raise DataError(f"'{texts[0]}': one text was expected, without a tab")
        return split_fields([text if "\t" in text else f"{text}\t" for text in texts], self.text_column_name[:2])

    # ---- the model

    def check_base(self, base: Base) -> None:
        if (modules := base.sentence_modules) is not None and modules.others:
            raise TaskError(f"base '{base.name}' has modules that aren't read: {', '.join(modules.others)}")

    def for_base(self, base: Base) -> Self:
        modules = base.sentence_modules
        pooling = (modules.pooling if modules else None) or "mean"
        normalize = "no" if modules is not None and not modules.normalizes else "yes"
        resolved: dict[str, Any] = {"pooling": pooling, "normalize": normalize}
        return replace(self, **{name: value for name, value in resolved.items() if getattr(self, name) == "auto"})

    def config(self) -> dict[str, Any]:
        return {"sentence_pooling": self.pooling, "sentence_normalize": self.normalize}

    def head(self, config: Any) -> nn.Module:
        from .sentence_head import SentenceHead

        pooling = "mean" if self.pooling == "auto" else self.pooling
        return SentenceHead(config.hidden_size, pooling, normalizes=self.normalize != "no")

    # ---- features

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return for each row a list of token ids for each of its texts, (texts, tokens)."""
        columns = [texts_of(rows[name]) for name in self.text_column_name if name in rows]
        pairs = positives(self._labels(rows)) if labelled and self.has_labels else None
        if pairs is not None:
            columns = [[columns[0][i] for i, _ in pairs], [columns[0][j] for _, j in pairs]]
        encoded = [truncated(tokenizer, [texts], self.max_seq_length) for texts in columns]
        filled = [[bool(i == 0 or text) for i, text in enumerate(row)] for row in zip(*columns, strict=True)]
        features: dict[str, list[Any]] = {
            key: [
                [ids for ids, has in zip(row, some, strict=True) if has]
                for row, some in zip(zip(*(e[key] for e in encoded), strict=True), filled, strict=True)
            ]
            for key in TENSORS
            if key in encoded[0]
        }
        if pairs is not None:
            labels = self._labels(rows)
            features |= {"row": [i for i, _ in pairs], "labels": [label_number(labels[i]) for i, _ in pairs]}
        elif labelled and self.has_scores:
            features["labels"] = self._scores(rows)
        return features

    def _scores(self, rows: Dataset | Rows) -> list[float]:
        return [number_in(cell) or 0.0 for cell in stream(rows[str(self.label_column_name)])]

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return functools.partial(nested_batch, tokenizer=tokenizer)

    # ---- outputs

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        from . import embedding_losses as losses

        inputs = {key: value for key, value in batch.items() if key != "labels"}
        size, recompute = self.mini_batch_size or PART, self.mini_batch_size > 0
        vectors = model(**inputs, part_size=size, recompute=recompute).logits.float()
        if self.has_scores:
            loss: losses.VectorLoss = functools.partial(losses.cosent, scale=self.scale)
        elif self.loss_type == "triplet":
            loss = lambda some, _: losses.triplet(some, margin=self.margin)  # noqa: E731
        else:
            loss = functools.partial(losses.multiple_negatives, scale=self.scale)
        return losses.at_sizes(loss, self._sizes, vectors, batch.get("labels"))

    def loss_weight(self, batch: Mapping[str, Tensor]) -> float:
        return float(len(batch["input_ids"]))

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return the vectors of each row's texts, (texts, features)."""
        inputs = {key: batch[key] for key in TENSORS if key in batch}
        return list(model(**inputs, part_size=PART).logits.float().cpu().numpy())

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics.bootstrap import merged

        metrics = self._metrics(predictions, data)
        for size in self._sizes:
            cut = self._metrics([vectors[:, :size] for vectors in predictions], data)
            names = {name: f"{name}_dim_{size}" for name in cut.values}
            values = {names[name]: value for name, value in cut.values.items()}
            intervals = {names[name]: interval for name, interval in cut.intervals.items()}
            metrics = merged(metrics, replace(cut, values=values, intervals=intervals))
        return metrics

    def _metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        import numpy as np

        from ..metrics import corpus_retrieval, correlation, label_retrieval

        if self.has_scores:
            return correlation(self._scores(data), [_cosine(vectors) for vectors in predictions])
        first = _unit(np.stack([vectors[0] for vectors in predictions]))
        if self.has_labels:
            return label_retrieval(first, self._labels(data))
        columns = [texts_of(data[name]) for name in self.text_column_name]
        corpus = {text: (i, c) for c in range(1, len(columns)) for i, text in enumerate(columns[c])}
        number = {text: n for n, text in enumerate(corpus)}
        relevant: dict[str, set[int]] = {}
        for anchor, positive in zip(columns[0], columns[1], strict=True):
            relevant.setdefault(anchor, set()).add(number[positive])
        vectors = _unit(np.stack([predictions[i][c] for i, c in corpus.values()]))
        return corpus_retrieval(first, vectors, [relevant[anchor] for anchor in columns[0]])

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        return [
            {"embedding": vectors[0].tolist()} if len(vectors) == 1 else {"score": _cosine(vectors)}
            for vectors in predictions
        ]

    def headline(self, answer: Mapping[str, Any]) -> Any:
        return answer["embedding"] if "embedding" in answer else answer["score"]


def _guess(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of an anchor, its positive and negatives, of a pair, or of a text."""
    positive, anchor = first_of(POSITIVES, names), first_of(ANCHORS, names)
    if positive and anchor:
        return (anchor, positive, *(name for name in names if _NEGATIVE.fullmatch(name.lower())))
    by_lower = {name.lower(): name for name in names}
    for pair in PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    one = first_of(TEXTS, names)
    return (one,) if one else ()


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return unit


def _cosine(vectors: np.ndarray) -> float:
    first, second = _unit(vectors[:2].astype("float64"))
    return float(first @ second)
