"""Multiple choice: which of several endings goes with a context."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.column_types import LINE
from ..errors import DataError
from .choices import choice_columns, choices_of, chosen, counts_from_1, names_another, right_choice
from .columns import check_there, choose, each, first_of, require, stream, visible
from .inputs import inputs_of
from .language_modeling import pad_id
from .nested import nested_batch
from .probabilities import softmax
from .task import Rows, Task
from .values import is_empty, text_of, texts_of
from .windows import truncated

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

CONTEXTS = (
    *("context", "sent1", "startphrase", "passage", "article", "ctx", "dialogue", "premise", "goal"),
    *("support", "obs1", "question_stem", "sentence", "question"),
)
QUESTIONS = ("question", "sent2", "obs2")
UNKNOWN = -1
"""The number of the first ending before the training rows have been read."""
ABSENT = -1e4
"""The score of an ending that fills a row up: exp(ABSENT) is 0 in every dtype, and finite in float16."""
LABELS = ("label", "answer", "gold", "answerkey", "answer_key", "correct", "cop")


def real_choices(mask: Tensor) -> Tensor:
    """Return which endings are no filling, by attention masks, (..., tokens): fillings have a single token."""
    real: Tensor = mask.sum(-1) > 1
    return real


def _loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy of (rows, endings) logits, whose labels are smoothed over the endings of a row."""
    from torch.nn.functional import nll_loss

    scores, real = logits.log_softmax(-1), logits > ABSENT / 2
    smooth = -(scores.masked_fill(~real, 0).sum(-1) / real.sum(-1)).mean()
    return (1 - label_smoothing) * nll_loss(scores, labels) + label_smoothing * smooth


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Task):
    """Choose the ending of a context; the head scores each with one output."""

    name: ClassVar[str] = "multiple-choice"
    auto_class: ClassVar[str] = "AutoModelForMultipleChoice"
    best: ClassVar[str] = "accuracy"
    has_choices: ClassVar[bool] = True
    probe_unit: ClassVar[Literal["text", "token"] | None] = "text"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "context_column_name": ("context",),
        "endings_column_name": ("endings",),
        "label_column_name": ("label",),
    }

    context_column_name: Annotated[str | None, "column of the context", "--context-column"] = None
    question_column_name: Annotated[str | None, "column of a question, or of how an ending begins"] = None
    endings_column_name: Annotated[tuple[str, ...], "column of a list of endings, or one column for each"] = ()
    label_column_name: Annotated[
        str | None, "column of the right ending: its number, letter, key or text", "--label-column"
    ] = None
    first_label: Annotated[int, "the number of the first ending, 0 or 1; inferred from the training rows"] = 0
    num_choices: Annotated[int, "the most endings of a row, where rows differ; inferred from the training rows"] = 0

    newer_options: ClassVar[frozenset[str]] = frozenset({"first_label", "num_choices"})
    label_options: ClassVar[frozenset[str]] = Task.label_options | {"first_label", "num_choices"}
    metadata: ClassVar[tuple[str, ...]] = (
        *("ctx_a", "ctx_b", "activity_label", "split_type", "source_id", "fold-ind", "startphrase", "gold-source"),
        *("gold-ending", "distractor-0", "distractor-1", "distractor-2", "distractor-3", "example_id", "ind"),
    )

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        return bool(choice_columns(list(first))) and first_of(CONTEXTS, list(first)) is not None

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, *self.endings_column_name, self.question_column_name)
        endings = self.endings_column_name or choice_columns(names)
        if not endings:
            others = [name for name in names if name not in (self.context_column_name, self.label_column_name)]
            raise DataError(
                f"which columns are the endings? give --endings-column-name; there are {', '.join(names)}",
                suggestion=("--endings-column-name", ",".join(others)),
            )
        context = choose("the context", "--context-column-name", self.context_column_name, names, CONTEXTS)
        question = self.question_column_name or first_of(QUESTIONS, names, without=[context])
        right = self.label_column_name or right_choice(endings)
        label = choose("the label", "--label-column-name", right, names, LABELS, [context, *endings])
        return replace(
            self,
            context_column_name=context,
            question_column_name=question,
            endings_column_name=tuple(endings),
            label_column_name=label,
            first_label=self.first_label or UNKNOWN,
        )

    def recorded(self) -> dict[str, Any]:
        values = super().recorded()
        return values if self.first_label > 0 else {k: v for k, v in values.items() if k != "first_label"}

    def describe_columns(self) -> str:
        columns = [self.context_column_name, self.question_column_name, *self.endings_column_name]
        return f"{' + '.join(str(name) for name in columns if name)} -> {self.label_column_name}"

    def _choices(self, rows: Rows | Dataset) -> list[list[str]]:
        return [texts for texts, _ in self._with_keys(rows)]

    def _with_keys(self, rows: Rows | Dataset) -> Iterator[tuple[list[str], list[str]]]:
        """Yield the texts of the endings of each row, and their keys. Raises `ValueError` for a row without endings."""
        columns = [stream(rows[name]) for name in self.endings_column_name]
        return map(self._endings_of, zip(*columns, strict=True))

    def _endings_of(self, cells: Sequence[Any]) -> tuple[list[str], list[str]]:
        """Return the endings of a row and their keys; of a column for each, the last ones may be empty."""
        if len(cells) == 1:
            return choices_of(cells[0])
        count = next((i for i in range(len(cells), 0, -1) if not is_empty(cells[i - 1])), 0)
        return choices_of(list(cells[: max(2, count)]))

    def _targets(self, rows: Rows | Dataset) -> list[int]:
        """Return the number of the right ending of each row, from 0."""
        labels = stream(rows[str(self.label_column_name)])
        choices = zip(labels, self._with_keys(rows), strict=True)
        numbers = [chosen(label, *endings, max(self.first_label, 0)) for label, endings in choices]
        return [-1 if number is None else number for number in numbers]  # none is, once the rows were checked

    def summary(self) -> str:
        numbered = ["endings are numbered from 1"] if self.first_label == 1 else []
        differ = [f"rows have up to {self.num_choices} endings"] if self.num_choices else []
        return ", ".join(numbered + differ)

    def fit(self, train: Dataset) -> Self:
        labels, choices = list(stream(train[str(self.label_column_name)])), list(self._with_keys(train))
        counts = {len(texts) for texts, _ in choices}
        if len(counts) > 1 and not self.num_choices:
            return replace(self, num_choices=max(counts)).fit(train)
        if self.first_label != UNKNOWN:
            return self
        keyed = any(text_of(label).strip() in keys for label, (_, keys) in zip(labels, choices, strict=True))
        from_1 = not keyed and counts_from_1(labels, [len(texts) for texts, _ in choices])
        return replace(self, first_label=int(from_1))

    def check(self, data: Dataset, file: str) -> None:
        for row, reason in self.faults(data, file):
            raise DataError(f"{file}:{data[LINE][row]}: {reason}")

    def faults(self, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
        columns, label = self.input_columns, str(self.label_column_name)
        check_there(data, file, *columns, label)
        for i, (right, *values) in enumerate(each(data, label, *columns)):
            row = dict(zip(columns, values, strict=True))
            try:
                texts, keys = self._endings_of([row[name] for name in self.endings_column_name])
                inputs_of(self, row)
                self._check_label(right, texts, keys)
            except (ValueError, DataError) as error:
                reason = str(error)
                yield i, f"{' and '.join(self.endings_column_name)} {reason}" if reason.startswith("is ") else reason

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        counts = Counter(len(texts) for texts in self._choices(data))
        remarks = []
        if len(counts) > 1:
            rows = ", ".join(f"{count:,} of {number}" for number, count in sorted(counts.items()))
            remarks.append(f"{file}: rows have different numbers of endings ({rows}): each is scored among its own")
        labels = stream(data[str(self.label_column_name)])
        double = sum(
            names_another(label, *endings, max(self.first_label, 0))
            for label, endings in zip(labels, self._with_keys(data), strict=True)
        )
        if double:
            remarks.append(
                f"{file}: {double:,} of {len(data):,} labels number an ending and are the text of another: they are "
                "read as numbers; letters, from A on, are unambiguous"
            )
        return remarks

    def _check_label(self, label: Any, texts: Sequence[str], keys: Sequence[str]) -> None:
        firsts = (0, 1) if self.first_label == UNKNOWN else (self.first_label,)
        if all(chosen(label, texts, keys, first) is None for first in firsts):
            name = str(self.label_column_name)
            if is_empty(label):
                raise ValueError(f"{name} is empty")
            endings = ", ".join(keys) if keys else f"{firsts[0]} to {len(texts) - 1 + firsts[-1]}"
            raise ValueError(f"the label is '{str(label)[:40]}', but there are endings {endings}")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return for each row a list of token ids for each of its endings, (endings, tokens)."""
        choices = self._choices(rows)
        begins = texts_of(rows[self.question_column_name]) if self.question_column_name else [""] * len(choices)
        features: dict[str, list[Any]] = {}
        contexts = texts_of(rows[str(self.context_column_name)])
        for context, begin, endings in zip(contexts, begins, choices, strict=True):
            seconds = [f"{begin} {ending}".strip() for ending in endings]
            firsts = [context] * len(endings)
            encoded = truncated(tokenizer, [firsts, seconds], self.max_seq_length)
            for key, value in encoded.items():
                features.setdefault(key, []).append(value)
        if labelled:
            if self.num_choices:
                self._fill_up(features, tokenizer)
            features["labels"] = self._targets(rows)
        return features

    def _fill_up(self, features: Mapping[str, list[Any]], tokenizer: Any) -> None:
        """Give rows of fewer endings than `num_choices` further ones of a single padding token, for equal batches."""
        fill = {"input_ids": pad_id(tokenizer), "attention_mask": 1, "token_type_ids": 0}
        for name, rows in features.items():
            for row in rows:
                row += [[fill.get(name, 0)]] * (self.num_choices - len(row))

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        if "attention_mask" not in batch:  # the scores of a linear probe
            return _loss(model().logits, batch["labels"], label_smoothing)
        if not self.num_choices:
            return super().loss(model, batch, label_smoothing=label_smoothing)
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        real = real_choices(batch["attention_mask"])
        return _loss(logits.masked_fill(~real, ABSENT), batch["labels"], label_smoothing)

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return functools.partial(nested_batch, tokenizer=tokenizer)

    def accepts(self, column: str, value: Any) -> str | None:
        if self.endings_column_name != (column,):
            return super().accepts(column, value)
        try:
            choices_of(value)
        except ValueError:
            return "a list of at least 2 endings"
        return None

    def may_be_empty(self, column: str) -> bool:
        """Return whether an ending may follow the context directly, or a row may have fewer endings or no passage."""
        return (
            column == self.question_column_name
            or (column == self.context_column_name and self.question_column_name is not None)
            or column in self.endings_column_name[2:]
        )

    def probe_outputs(self, config: Any) -> int:
        return 1

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from torch.nn.functional import cross_entropy
        from transformers.modeling_outputs import MultipleChoiceModelOutput

        scores, target = scores.view(-1, choices or 1), labels.get("labels")
        if mask.shape[-1] > 1:
            scores = scores.masked_fill(~real_choices(mask).view_as(scores), ABSENT)
        return MultipleChoiceModelOutput(loss=None if target is None else cross_entropy(scores, target), logits=scores)

    def probe_targets(self, labels: Mapping[str, Tensor], counts: Sequence[int], choices: int | None) -> Tensor:
        from torch.nn.functional import one_hot

        return one_hot(labels["labels"], choices or 1).float().view(-1, 1)

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import classification

        counts = [len(texts) for texts in self._choices(data)]
        chosen_ones = [int(row[:count].argmax()) for row, count in zip(predictions, counts, strict=True)]
        return classification(self._targets(data), chosen_ones, max(counts))

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for logits, (endings, keys) in zip(predictions, self._with_keys(data), strict=True):
            logits = logits[: len(endings)]  # without those that fill a row up
            best = int(logits.argmax())
            score = float(softmax(logits.astype("float64"))[best])
            key = {"key": keys[best]} if keys else {}
            answers.append({"label": best + max(self.first_label, 0), **key, "ending": endings[best], "score": score})
        return answers

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        rows: list[list[dict[str, Any]]] = []
        first = max(self.first_label, 0)
        for logits, (endings, _) in zip(outputs, self._with_keys(data), strict=True):
            shares = enumerate(zip(endings, softmax(logits.astype("float64")), strict=True), start=first)
            scored: list[dict[str, Any]] = [
                {"label": i, "ending": ending, "score": float(share)} for i, (ending, share) in shares
            ]
            rows.append(sorted(scored, key=lambda candidate: -float(candidate["score"])))
        return rows

    def rows(self, texts: Sequence[str]) -> Rows:
        parts = [text.split("\t") for text in texts]
        lead = 2 if self.question_column_name else 1
        for text, part in zip(texts, parts, strict=True):
            if len(part) < lead + max(2, len(self.endings_column_name)):
                raise DataError(f"'{text}': a context and its endings, at least two, were expected, separated by tabs")
        rows: dict[str, Any] = {str(self.context_column_name): [part[0] for part in parts]}
        if self.question_column_name:
            rows[self.question_column_name] = [part[1] for part in parts]
        if len(self.endings_column_name) == 1:
            return {**rows, self.endings_column_name[0]: [part[lead:] for part in parts]}
        for i, name in enumerate(self.endings_column_name):
            rows[name] = [part[lead + i] for part in parts]
        return rows
