"""Text classification: one label, several labels or a number for a text or a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.column_types import LINE
from ..errors import DataError, OptionError, unknown
from .columns import (
    PAIRS,
    TEXTS,
    balanced_weights,
    check_there,
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
    usual_label,
    visible,
)
from .label_answers import label_answers, label_candidates
from .label_remarks import label_remarks, reading_remarks
from .labels import (
    ESCAPES,
    MULTI,
    NUMBER,
    SINGLE,
    Kind,
    are_probabilities,
    flagged,
    is_scalar,
    kind_of,
    label_text,
    labels_in,
    number_in,
    vector_length,
)
from .language_modeling import IGNORED
from .losses import weighted_loss
from .probabilities import expit
from .task import Rows, Task
from .values import is_empty, text_of, texts_of
from .windows import in_windows, mean_of_windows, truncated

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """Choose a label, or several, or a number, for a text or a pair of texts."""

    name: ClassVar[str] = "text-classification"
    newer_options: ClassVar[frozenset[str]] = frozenset({"label_separator", "long_texts"})
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
    label_column_name: Annotated[
        str | None, "column of the label, or columns of 0 and 1, one for each label, as a,b,c", "--label-column"
    ] = None
    label_separator: Annotated[str | None, "separator of several labels in a cell, such as , or |"] = None
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
        label = usual_label(names)
        return bool(_guess_texts([n for n in names if n != label])) or (label is not None and len(names) == 2)

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        flags = _columns_in(self.label_column_name, names)
        require(names, *self.text_column_name, *flags)
        if both := set(flags) & set(self.text_column_name):
            raise DataError(f"column '{both.pop()}' can't be both the text and the label")
        if len(flags) > 1:
            texts = self.text_column_name or _guess_texts([name for name in names if name not in flags])
            text = choose("the text", "--text-column-name", next(iter(texts), None), names, (), flags)
            return replace(self, text_column_name=tuple(texts) or (text,), label_column_name=",".join(flags))
        label = self.label_column_name or usual_label(names, without=self.text_column_name)
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
        cells = list(self._cells(train))
        kind = self._kind(cells)
        if kind == MULTI and (length := vector_length(cells)) and len(self.labels) != length:
            raise DataError(
                f"column '{self._label}' holds lists of {length} zeros and ones, one for each label; give --labels "
                "with the names of the labels in their order"
            )
        if kind == MULTI and are_probabilities(cells):
            raise DataError(
                f"column '{self._label}' holds lists of probabilities, but labels, or zeros and ones, were expected; "
                "write the most probable label"
            )
        if len(set(self.labels)) < len(self.labels):
            raise OptionError(f"--labels={','.join(self.labels)} names a label twice")
        if kind == NUMBER:
            return replace(self, problem_type=NUMBER)
        rows = [self._names(cell, kind) for cell in cells]
        columns = self._label_columns(train.column_names)
        labels = self.labels or (columns if len(columns) > 1 else labels_of(label for row in rows for label in row))
        if len(labels) < 2 and kind == SINGLE:
            raise DataError(
                f"all {len(rows)} training rows have the label '{labels[0]}' in column '{self._label}'; "
                "to learn anything, two are needed"
            )
        if not labels:
            raise DataError(f"no training row has a label in column '{self._label}'")
        weights = check_weights(self.label_weights, labels)
        if self.class_weight == "balanced":
            weights = balanced_weights(labels, [label for row in rows for label in row])
        return replace(self, problem_type=kind, labels=labels, label_weights=weights)

    # ---- the labels of rows

    @property
    def _label(self) -> str:
        return str(self.label_column_name)

    def _label_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        return _columns_in(self.label_column_name, names)

    @property
    def columns_read(self) -> list[str]:
        """The columns that training and evaluation read: texts, and one or several of labels."""
        return [*super().columns_read, *self._label.split(",")]

    def _cells(self, rows: Dataset | Rows) -> Iterator[Any]:
        """Yield the cell of each row's label, or a tuple of the cells of several columns."""
        names = list(rows) if isinstance(rows, Mapping) else rows.column_names
        columns = [stream(rows[column]) for column in self._label_columns(names)]
        return columns[0] if len(columns) == 1 else zip(*columns, strict=True)

    def _kind(self, cells: Sequence[Any]) -> Kind:
        if self.label_separator or (cells and isinstance(cells[0], tuple)):
            return MULTI
        return self.problem_type or kind_of(cells)

    def _names(self, cell: Any, kind: Kind) -> list[str]:
        """Return the labels of a cell. Raises `ValueError`, which begins with a verb or a column, for another value."""
        if isinstance(cell, tuple):
            return flagged(self._label.split(","), cell)
        if kind == MULTI:
            return labels_in(cell, ESCAPES.get(self.label_separator or "", self.label_separator), self.labels)
        if not is_scalar(cell):
            raise ValueError(f"is {str(cell)[:60]}, but a label was expected")
        return [label_text(cell, self.labels)]

    def labels_by_row(self, data: Dataset) -> Iterator[Sequence[str]]:
        kind = self.problem_type or SINGLE
        return iter(()) if kind == NUMBER else (self._names(cell, kind) for cell in self._cells(data))

    def check(self, data: Dataset, file: str) -> None:
        for i, reason in self.faults(data, file):
            raise DataError(f"{file}:{data[LINE][i]}: {reason}")

    def faults(self, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
        check_there(data, file, *self.text_column_name, *self._label_columns(data.column_names))
        kind = self._kind(list(self._cells(data)))
        texts = each(data, *self.text_column_name)
        for i, (row, cell) in enumerate(zip(texts, self._cells(data), strict=True)):
            if reason := self._text_fault(row) or self._label_fault(cell, kind):
                yield i, reason

    def _text_fault(self, texts: tuple[Any, ...]) -> str:
        if all(map(is_empty, texts)):
            return f"{' and '.join(self.text_column_name)} {'is' if len(texts) == 1 else 'are'} empty"
        for column, text in zip(self.text_column_name, texts, strict=True):
            try:
                text_of(text)
            except ValueError as error:
                return f"{column} {error}"
        return ""

    def _label_fault(self, cell: Any, kind: Kind) -> str:
        if is_empty(cell) and not (self.label_separator or isinstance(cell, list | tuple)):
            return f"{self._label} is empty"
        if kind == NUMBER:
            return "" if number_in(cell) is not None else f"{self._label} is '{cell}', but a number was expected"
        try:
            labels = self._names(cell, kind)
        except ValueError as error:
            return str(error) if isinstance(cell, tuple) else f"{self._label} {error}"
        others = [label for label in labels if label not in self.labels] if self.labels else []
        return unknown("label", others[0], self.labels, known_as="in training") if others else ""

    def may_be_empty(self, column: str) -> bool:
        return len(self.text_column_name) > 1  # half of a pair; a row with nothing in both is refused

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        texts = {column: data[column] for column in self.text_column_name}
        several = (self.problem_type or SINGLE) == MULTI
        return [f"{file}: {text}" for text in reading_remarks(texts, self._label, self._cells(data), several)]

    def label_remarks(self, train: Dataset, file: str) -> list[str]:
        cells = list(self._cells(train))
        kind = self._kind(cells)
        counts = Counter(label for cell in cells for label in self._names(cell, kind)) if kind != NUMBER else Counter()
        return [f"{file}: {text}" for text in label_remarks(self._label, cells, counts, kind)]

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
        return len(self.labels) > 1

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        texts = [texts_of(rows[column]) for column in self.text_column_name]
        if not self.reads_windows:
            features = truncated(tokenizer, texts, self.max_seq_length)
            return {**features, "labels": self._targets(rows)} if labelled else features
        features = in_windows(tokenizer, texts[0], self.max_seq_length)
        if labelled:
            targets = self._targets(rows)
            features["labels"] = [targets[row] for row in features["row"]]
        return features

    @property
    def reads_windows(self) -> bool:
        return self.long_texts == "windows"

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        return mean_of_windows(outputs, features["row"]) if self.reads_windows else list(outputs)

    def _targets(self, rows: Dataset | Rows) -> list[Any]:
        cells = self._cells(rows)
        if self.problem_type == NUMBER:
            return [number_in(cell) for cell in cells]
        index = {label: i for i, label in enumerate(self.labels)}
        names = [self._names(cell, self.problem_type or SINGLE) for cell in cells]
        if self.problem_type == MULTI:
            chosen = [{index[label] for label in row if label in index} for row in names]
            return [[float(i in row) for i in range(len(self.labels))] for row in chosen]
        return [index.get(label, IGNORED) for (label,) in names]

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
        truth = self._targets(data)
        if self.problem_type == NUMBER:
            return regression(truth, logits[:, 0].tolist())
        if self.problem_type == MULTI:
            return multilabel(np.array(truth, dtype=bool), self._chosen(logits), unknown=self._unknown(data))
        other = len(self.labels)  # a label that no training row has, and that is never guessed
        return classification([t if t >= 0 else other for t in truth], logits.argmax(-1).tolist(), other + 1)

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from transformers.loss.loss_utils import ForSequenceClassificationLoss
        from transformers.modeling_outputs import SequenceClassifierOutput

        target = labels.get("labels")
        loss = None if target is None else ForSequenceClassificationLoss(target, scores.float(), config)
        return SequenceClassifierOutput(loss=loss, logits=scores)

    def _unknown(self, data: Dataset) -> list[bool]:
        """Return whether each row has a label that the task doesn't have."""
        return [not set(self.labels).issuperset(labels) for labels in self.labels_by_row(data)]

    def _chosen(self, logits: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = expit(logits.astype("float64")) >= self.threshold
        return chosen

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        return label_answers(predictions, self.labels, self.problem_type or SINGLE, self.threshold)

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        return label_candidates(self.predictions(outputs, features, data), self.labels, self.problem_type or SINGLE)

    def tables(self, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
        if self.problem_type != SINGLE:
            return {}
        from ..metrics import confusion_matrix, label_table

        pairs = [(t, int(row.argmax())) for t, row in zip(self._targets(data), predictions, strict=True) if t >= 0]
        truth, guess = map(list, zip(*pairs, strict=True))
        return {
            "labels": list(self.labels),
            "confusion_matrix": confusion_matrix(truth, guess, len(self.labels)),
            "per_label": label_table(truth, guess, list(self.labels)),
        }

    def rows(self, texts: Sequence[str]) -> Rows:
        return split_fields(texts, self.text_column_name)

    def strata(self, data: Dataset) -> list[str] | None:
        return [label for (label,) in self.labels_by_row(data)] if self.problem_type == SINGLE else None


def _guess_texts(names: Sequence[str]) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in names}
    for pair in PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    one = first_of(TEXTS, names) or (names[0] if len(names) == 1 else None)
    return (one,) if one else ()


def _columns_in(option: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that an option names: one, or several between commas where none has the complete name."""
    if option is None:
        return ()
    return (option,) if option in names or "," not in option else tuple(part.strip() for part in option.split(","))
