"""Text classification: one label, several labels or a number for a text or a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from ..data.splits import LINE
from ..errors import DataError, OptionError
from .columns import (
    LABELS,
    PAIRS,
    TEXTS,
    check_filled,
    check_labels,
    check_weights,
    choose,
    each,
    first_of,
    labels_of,
    labels_of_head,
    require,
    shown,
    split_fields,
    stream,
    visible,
)
from .task import Rows, Task, weighted_loss
from .windows import in_windows, mean_of_windows

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

SINGLE: Final = "single_label_classification"
MULTI: Final = "multi_label_classification"
NUMBER: Final = "regression"


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """Choose a label, or several, or a number, for a text or a pair of texts."""

    name: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    probe_unit: ClassVar[Literal["text", "token"] | None] = "text"
    peft_task_type: ClassVar[str | None] = "SEQ_CLS"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_column_name": ("text", "text_pair"),
        "label_column_name": ("label",),
    }

    text_column_name: Annotated[
        tuple[str, ...], "column of the text, or two separated by a comma", "--text-column", "--text-column-names"
    ] = ()
    label_column_name: Annotated[str | None, "column of the label", "--label-column"] = None
    labels: Annotated[tuple[str, ...], "the labels in order; by default those of the training rows, sorted"] = ()
    problem_type: Annotated[
        Literal["single_label_classification", "multi_label_classification", "regression"] | None,
        "by default inferred from the labels: texts or whole numbers, lists, or numbers with a point",
    ] = None
    threshold: Annotated[float, "probability from which a label of several is predicted"] = 0.5
    class_weight: Annotated[Literal["balanced", "none"], "weigh rare labels more, as scikit-learn does"] = "none"
    label_weights: Annotated[tuple[str, ...], "a weight for each label, in their order; or --class-weight"] = ()
    long_texts: Annotated[
        Literal["cut", "windows"], "texts over max_seq_length: cut, or read in windows whose outputs are averaged"
    ] = "cut"
    newer_options: ClassVar[frozenset[str]] = frozenset({"long_texts"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text_column_name) > 2:
            columns = ",".join(self.text_column_name)
            raise OptionError(f"--text-column-name={columns}: expected the column of a text, or two of a pair")

    @property
    def best(self) -> str:  # type: ignore[override]
        """The metric by which the best epoch is chosen."""
        return {SINGLE: "accuracy", MULTI: "f1_micro", NUMBER: "pearson"}[self.problem_type or SINGLE]

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        names = list(first)
        label = first_of(LABELS, names)
        return bool(_guess_texts([n for n in names if n != label])) or (label is not None and len(names) == 2)

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, *self.text_column_name, self.label_column_name)
        if self.label_column_name in self.text_column_name:
            raise DataError(f"column '{self.label_column_name}' can't be both the text and the label")
        label = self.label_column_name or first_of(LABELS, names, without=self.text_column_name)
        texts = self.text_column_name or _guess_texts([name for name in names if name != label])
        if label is None and len(names) == len(texts) + 1:
            label = next(name for name in names if name not in texts)
        text = choose("the text", "--text-column-name", next(iter(texts), None), names, (), [label])
        label = choose("the label", "--label-column-name", label, names, (), [text, *texts])
        if self.reads_windows and len(texts) > 1:
            raise OptionError(f"--long-texts=windows is for one text a row, and {' and '.join(texts)} are a pair")
        return replace(self, text_column_name=tuple(texts), label_column_name=label)

    def describe_columns(self) -> str:
        return f"{' + '.join(self.text_column_name)} -> {self.label_column_name}"

    def summary(self) -> str:
        if self.problem_type == NUMBER:
            return "a number"
        return shown(self.labels) + (", any number of them a text" if self.problem_type == MULTI else "")

    def fit(self, train: Dataset) -> Self:
        values = list(stream(train[self._label]))
        kind = self.problem_type or _kind(values)
        if len(set(self.labels)) < len(self.labels):
            raise OptionError(f"--labels={','.join(self.labels)} names a label twice")
        if kind == NUMBER:
            return replace(self, problem_type=NUMBER)
        rows = [value if kind == MULTI else [value] for value in values]
        labels = self.labels or labels_of(label for row in rows for label in row)
        if len(labels) < 2 and kind == SINGLE:
            raise DataError(
                f"all {len(rows)} training rows have the label '{labels[0]}' in column '{self._label}'; "
                "to learn anything, two are needed"
            )
        if not labels:
            raise DataError(f"no training row has a label in column '{self._label}'")
        weights = check_weights(self.label_weights, labels)
        if self.class_weight == "balanced":
            import numpy as np
            from sklearn.utils.class_weight import compute_class_weight

            flat = [str(label) for row in rows for label in row]
            present = sorted(set(flat))
            balanced = compute_class_weight("balanced", classes=np.array(present), y=flat)
            by_label = dict(zip(present, balanced, strict=True))
            weights = tuple(f"{by_label.get(label, 1.0):.6g}" for label in labels)
        return replace(self, problem_type=kind, labels=labels, label_weights=weights)

    @property
    def _label(self) -> str:
        return str(self.label_column_name)

    def check(self, data: Dataset, file: str) -> None:
        check_filled(data, file, *self.text_column_name, self._label)
        several = (self.problem_type or _kind(list(stream(data[self._label])))) == MULTI
        for line, value in each(data, LINE, self._label):
            labels = value if several and isinstance(value, list) else [value]
            if several != isinstance(value, list) or not all(isinstance(v, str | int | float) for v in labels):
                wanted = "a list of labels" if several else "a label"
                raise DataError(f"{file}:{line}: {self._label} is {str(value)[:60]}, but {wanted} was expected")
        if self.problem_type == NUMBER:
            for line, value in each(data, LINE, self._label):
                if _number(value) is None:
                    raise DataError(f"{file}:{line}: {self._label} is '{value}', but a number was expected")
        elif self.labels:
            values = stream(data[self._label])
            check_labels(data, file, values if self.problem_type == MULTI else ([v] for v in values), self.labels)

    def config(self) -> dict[str, Any]:
        if self.problem_type == NUMBER:
            return {"num_labels": 1, "problem_type": NUMBER}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": self.problem_type,
        }

    def matching_head(self, count: Callable[[], int], names: Mapping[int, str]) -> Self:
        outputs = count()
        kind = self.problem_type or (NUMBER if outputs == 1 and not self.labels else SINGLE)
        if kind == NUMBER:
            return replace(self, problem_type=NUMBER)
        return replace(self, problem_type=kind, labels=labels_of_head(self.labels, outputs, names))

    @property
    def head_starts_solved(self) -> bool:
        return len(self.labels) > 2  # below, it gained nothing (docs/explanation/training-cost.md)

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        texts = [list(map(str, rows[column])) for column in self.text_column_name]
        if not self.reads_windows:
            features = dict(tokenizer(*texts, truncation=True, max_length=self.max_seq_length))
            return {**features, "labels": self._targets(rows[self._label])} if labelled else features
        features = in_windows(tokenizer, texts[0], self.max_seq_length)
        if labelled:
            targets = self._targets(rows[self._label])
            features["labels"] = [targets[row] for row in features["row"]]
        return features

    @property
    def reads_windows(self) -> bool:
        return self.long_texts == "windows"

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        return mean_of_windows(outputs, features["row"]) if self.reads_windows else list(outputs)

    def _targets(self, values: Sequence[Any]) -> list[Any]:
        if self.problem_type == NUMBER:
            return [float(value) for value in values]
        index = {label: i for i, label in enumerate(self.labels)}
        if self.problem_type == MULTI:
            chosen = [{index[str(label)] for label in row} for row in values]
            return [[float(i in row) for i in range(len(self.labels))] for row in chosen]
        return [index[str(value)] for value in values]

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        from transformers import DataCollatorWithPadding

        pad = DataCollatorWithPadding(tokenizer)

        def padded(features: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = pad([{k: v for k, v in f.items() if k != "row"} for f in features])
            return batch

        return padded

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        if self.problem_type != SINGLE or not (label_smoothing or self.label_weights):
            loss: Tensor = model(**batch).loss
            return loss
        return weighted_loss(model, batch, [float(w) for w in self.label_weights] or None, label_smoothing)

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        import numpy as np

        from ..metrics import classification, multilabel, regression

        logits = np.stack(predictions)
        truth = self._targets(list(stream(data[self._label])))
        if self.problem_type == NUMBER:
            return regression(truth, logits[:, 0].tolist())
        if self.problem_type == MULTI:
            return multilabel(np.array(truth, dtype=bool), self._chosen(logits))
        return classification(truth, logits.argmax(-1).tolist(), len(self.labels))

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from transformers.loss.loss_utils import ForSequenceClassificationLoss
        from transformers.modeling_outputs import SequenceClassifierOutput

        target = labels.get("labels")
        loss = None if target is None else ForSequenceClassificationLoss(target, scores.float(), config)
        return SequenceClassifierOutput(loss=loss, logits=scores)

    def _chosen(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        chosen: np.ndarray = expit(logits.astype("float64")) >= self.threshold
        return chosen

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        import numpy as np
        from scipy.special import expit, softmax

        logits = np.stack(predictions).astype("float64")
        if self.problem_type == NUMBER:
            return [{"value": float(row[0])} for row in logits]
        if self.problem_type == MULTI:
            return [
                {"labels": {self.labels[i]: float(p) for i, p in enumerate(row) if p >= self.threshold}}
                for row in expit(logits)
            ]
        return [{"label": self.labels[row.argmax()], "score": float(row.max())} for row in softmax(logits, axis=-1)]

    def tables(self, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
        if self.problem_type != SINGLE:
            return {}
        from ..metrics import confusion_matrix, label_table

        truth = self._targets(list(stream(data[self._label])))
        guess = [int(row.argmax()) for row in predictions]
        return {
            "labels": list(self.labels),
            "confusion_matrix": confusion_matrix(truth, guess, len(self.labels)),
            "per_label": label_table(truth, guess, list(self.labels)),
        }

    def rows(self, texts: Sequence[str]) -> Rows:
        return split_fields(texts, self.text_column_name)

    def strata(self, data: Dataset) -> list[str] | None:
        return [str(value) for value in stream(data[self._label])] if self.problem_type == SINGLE else None


def _guess_texts(names: Sequence[str]) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in names}
    for pair in PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    one = first_of(TEXTS, names) or (names[0] if len(names) == 1 else None)
    return (one,) if one else ()


def _kind(values: Sequence[Any]) -> Literal["single_label_classification", "multi_label_classification", "regression"]:
    if any(isinstance(value, list | tuple) for value in values):
        return MULTI
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        pointed = any(isinstance(value, float) or "." in str(value) for value in values)
        if pointed:
            return NUMBER
    return SINGLE


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
