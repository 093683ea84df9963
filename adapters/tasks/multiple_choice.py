"""Multiple choice: which of several endings goes with a context."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.splits import LINE
from ..errors import DataError
from .columns import check_filled, choose, each, first_of, require, stream, visible
from .language_modeling import pad_id, padded
from .task import Rows, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

CONTEXTS = ("context", "sent1", "startphrase", "passage", "article", "question")
QUESTIONS = ("question", "sent2")


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
    label_column_name: Annotated[str | None, "column of the right ending's number, from 0", "--label-column"] = None

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        return bool(_endings(list(first))) and first_of(CONTEXTS, list(first)) is not None

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, *self.endings_column_name, self.question_column_name)
        endings = self.endings_column_name or _endings(names)
        if not endings:
            others = [name for name in names if name not in (self.context_column_name, self.label_column_name)]
            raise DataError(
                f"which columns are the endings? give --endings-column-name; there are {', '.join(names)}",
                suggestion=("--endings-column-name", ",".join(others)),
            )
        context = choose("the context", "--context-column-name", self.context_column_name, names, CONTEXTS)
        question = self.question_column_name or first_of(QUESTIONS, names, without=[context])
        label = choose(
            "the label",
            "--label-column-name",
            self.label_column_name,
            names,
            ("label", "answer", "gold"),
            [context, *endings],
        )
        return replace(
            self,
            context_column_name=context,
            question_column_name=question,
            endings_column_name=tuple(endings),
            label_column_name=label,
        )

    def describe_columns(self) -> str:
        columns = [self.context_column_name, self.question_column_name, *self.endings_column_name]
        return f"{' + '.join(str(name) for name in columns if name)} -> {self.label_column_name}"

    def _choices(self, rows: Rows | Dataset) -> list[list[str]]:
        columns = [stream(rows[name]) for name in self.endings_column_name]
        if len(columns) == 1:
            return [list(endings) for endings in columns[0]]
        return [list(endings) for endings in zip(*columns, strict=True)]

    def check(self, data: Dataset, file: str) -> None:
        check_filled(data, file, str(self.context_column_name), str(self.label_column_name), *self.endings_column_name)
        rows = zip(each(data, LINE, str(self.label_column_name)), self._choices(data), strict=True)
        count = None
        for (line, label), endings in rows:
            count = count or len(endings)
            if len(endings) != count or count < 2:
                wanted = f"{count}, as in the first row" if count > 1 else "at least 2"
                raise DataError(f"{file}:{line}: {len(endings)} endings, but {wanted}, were expected")
            if any(not isinstance(ending, str) or not ending.strip() for ending in endings):
                raise DataError(f"{file}:{line}: an ending is empty or no text")
            if not re.fullmatch(r"\d+", str(label)) or int(label) >= len(endings):
                raise DataError(f"{file}:{line}: the label is '{label}', but there are endings 0 to {len(endings) - 1}")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return for each row a list of token ids for each of its endings, (endings, tokens)."""
        begins = rows[self.question_column_name] if self.question_column_name else [""] * len(self._choices(rows))
        features: dict[str, list[Any]] = {}
        contexts = rows[str(self.context_column_name)]
        for context, begin, endings in zip(contexts, begins, self._choices(rows), strict=True):
            seconds = [f"{begin} {ending}".strip() for ending in endings]
            firsts = [str(context)] * len(endings)
            encoded = tokenizer(firsts, seconds, truncation=True, max_length=self.max_seq_length)
            for key, value in encoded.items():
                features.setdefault(key, []).append(value)
        if labelled:
            features["labels"] = [int(label) for label in rows[str(self.label_column_name)]]
        return features

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        def collated(features: list[dict[str, Any]]) -> dict[str, Any]:
            import torch

            count = len(features[0]["input_ids"])
            keys = [key for key in features[0] if key != "labels"]
            flat = [{key: f[key][i] for key in keys} for f in features for i in range(count)]
            fill = {"input_ids": pad_id(tokenizer), "attention_mask": 0, "token_type_ids": 0}
            batch = {key: t.view(len(features), count, -1) for key, t in padded(flat, fill).items()}
            if "labels" in features[0]:
                batch["labels"] = torch.tensor([f["labels"] for f in features])
            return batch

        return collated

    def accepts(self, column: str, value: Any) -> str | None:
        if self.endings_column_name != (column,):
            return super().accepts(column, value)
        several = isinstance(value, list) and all(isinstance(ending, str) and ending for ending in value)
        return None if several and len(value) > 1 else "a list of at least 2 endings"

    def may_be_empty(self, column: str) -> bool:
        return column == self.question_column_name  # an ending may follow the context directly

    def probe_outputs(self, config: Any) -> int:
        return 1

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from torch.nn.functional import cross_entropy
        from transformers.modeling_outputs import MultipleChoiceModelOutput

        scores, target = scores.view(-1, choices or 1), labels.get("labels")
        return MultipleChoiceModelOutput(loss=None if target is None else cross_entropy(scores, target), logits=scores)

    def probe_targets(self, labels: Mapping[str, Tensor], counts: Sequence[int], choices: int | None) -> Tensor:
        from torch.nn.functional import one_hot

        return one_hot(labels["labels"], choices or 1).float().view(-1, 1)

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import classification

        truth = [int(label) for label in stream(data[str(self.label_column_name)])]
        return classification(truth, [int(row.argmax()) for row in predictions], max(len(row) for row in predictions))

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        from scipy.special import softmax

        answers = []
        for logits, endings in zip(predictions, self._choices(data), strict=True):
            best = int(logits.argmax())
            answers.append(
                {"label": best, "ending": endings[best], "score": float(softmax(logits.astype("float64"))[best])}
            )
        return answers

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


def _endings(names: Sequence[str]) -> tuple[str, ...]:
    listed = first_of(("endings", "choices", "options"), names)
    if listed:
        return (listed,)
    numbered = sorted(name for name in names if re.fullmatch(r"(ending|choice|option)_?\d", name.lower()))
    return tuple(numbered) if len(numbered) > 1 else ()
