"""Text ranking: how relevant a passage is to a query, read together by a cross-encoder."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.column_types import LINE
from ..errors import DataError
from ..settings import at_least
from .columns import check_there, choose, each, first_of, require, split_fields, stream, usual_label, visible
from .labels import number_in
from .language_modeling import pad_id
from .nested import TENSORS, flat_inputs, nested_batch
from .probabilities import expit
from .task import Rows, Task
from .values import is_empty, is_list_of_texts, text_of
from .windows import truncated

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

QUERIES = ("query", "question", "search", "anchor", "sentence1")
PASSAGES = ("passage", "document", "doc", "text", "answer", "sentence", "sentence2", "context")
LISTS = ("passages", "documents", "docs", "candidates")
_LABELS = ("relevance", "label", "labels", "score", "scores")
ABSENT = float("nan")
"""The label of what fills a list of passages up."""


@dataclass(frozen=True, kw_only=True)
class TextRanking(Task):
    """Score passages for a query; a row has one passage and its label, or lists of both."""

    name: ClassVar[str] = "text-ranking"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    best: ClassVar[str] = "ndcg_at_10"
    has_choices: ClassVar[bool] = True
    peft_task_type: ClassVar[str | None] = "SEQ_CLS"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "query_column_name": ("query",),
        "passage_column_name": ("passage",),
        "label_column_name": ("label",),
    }
    label_options: ClassVar[frozenset[str]] = Task.label_options | {"ranking_loss", "group_size", "max_relevance"}

    query_column_name: Annotated[str | None, "column of the query", "--query-column"] = None
    passage_column_name: Annotated[str | None, "column of a passage, or of a list of them", "--passage-column"] = None
    label_column_name: Annotated[str | None, "column of the relevance, or of a list of them", "--label-column"] = None
    ranking_loss: Annotated[
        Literal["pointwise", "pairwise", "listwise"], "passages by themselves, RankNet or ListNet"
    ] = "pointwise"
    group_size: Annotated[int, "passages of a query that are compared at once"] = 8
    max_relevance: Annotated[float, "the relevance that counts as 1 (0: the highest of the training rows)"] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 2, "group_size")
        at_least(self, 0, "max_relevance")

    # ---- columns and rows

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        passages, labels = first_of(LISTS, list(first)), first_of(_LABELS, list(first))
        lists = passages and labels and is_list_of_texts(first[passages]) and isinstance(first[labels], list | tuple)
        return bool(lists) and first_of(QUERIES, list(first)) is not None

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, self.query_column_name, self.passage_column_name, self.label_column_name)
        query = choose("the query", "--query-column-name", self.query_column_name, names, QUERIES)
        others = [name for name in names if name != query]
        passage = self.passage_column_name or first_of((*LISTS, *PASSAGES), others)
        passage = choose("the passage", "--passage-column-name", passage, names, (), [query])
        label = self.label_column_name or first_of(_LABELS, others) or usual_label(names, [query, passage])
        label = choose("the relevance", "--label-column-name", label, names, (), [query, passage])
        return replace(self, query_column_name=query, passage_column_name=passage, label_column_name=label)

    @property
    def _columns(self) -> tuple[str, str, str]:
        return str(self.query_column_name), str(self.passage_column_name), str(self.label_column_name)

    def describe_columns(self) -> str:
        query, passage, label = self._columns
        return f"{query} + {passage} -> {label}"

    def summary(self) -> str:
        return "" if self.max_relevance in (0.0, 1.0) else f"relevance from 0 to {self.max_relevance:g}"

    def fit(self, train: Dataset) -> Self:
        highest = self.max_relevance or max((r for row in self._relevance(train) for r in row), default=0.0)
        if highest <= 0:
            raise DataError(f"no training row has a relevance above 0 in column '{self.label_column_name}'")
        task = replace(self, max_relevance=float(highest))
        if self.ranking_loss != "pointwise" and not any(
            len(set(labels)) > 1 for _, labels in task._groups(train[:], task._relevance(train))
        ):
            raise DataError(f"--ranking-loss {self.ranking_loss}: no query has passages of different relevance")
        return task

    def _relevance(self, rows: Dataset | Rows) -> list[list[float]]:
        """Return the relevance of each passage of each row."""
        return [_numbers(cell) or [] for cell in stream(rows[str(self.label_column_name)])]

    def _passages(self, rows: Dataset | Rows) -> list[list[str]]:
        return [_texts(cell) for cell in stream(rows[str(self.passage_column_name)])]

    def _groups(
        self, rows: Rows, relevance: Sequence[Sequence[float]]
    ) -> Iterator[tuple[list[tuple[int, int]], list[float]]]:
        """Yield the passages of each query, as row and number in the row, and their relevance."""
        groups: dict[Any, tuple[list[tuple[int, int]], list[float]]] = {}
        for i, (query, labels) in enumerate(zip(rows[str(self.query_column_name)], relevance, strict=True)):
            key = (query, i) if len(labels) > 1 else query  # a list is a group of its own
            places, values = groups.setdefault(key, ([], []))
            places += [(i, k) for k in range(len(labels))]
            values += labels
        yield from groups.values()

    def check(self, data: Dataset, file: str) -> None:
        for i, reason in self.faults(data, file):
            raise DataError(f"{file}:{data[LINE][i]}: {reason}")

    def faults(self, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
        query, passage, label = self._columns
        check_there(data, file, query, passage, label)
        for i, (question, cell, relevance) in enumerate(each(data, query, passage, label)):
            numbers = _numbers(relevance)
            if is_empty(question) or is_empty(cell):
                yield i, f"{query if is_empty(question) else passage} is empty"
            elif self.accepts(passage, cell):
                yield i, f"{passage} is {str(cell)[:60]}, but {self.accepts(passage, cell)} was expected"
            elif numbers is None or min(numbers, default=0.0) < 0:
                yield i, f"{label} is '{str(relevance)[:40]}', but a relevance >= 0 was expected"
            elif len(numbers) != len(_texts(cell)):
                yield i, f"{label} has {len(numbers)} numbers for {len(_texts(cell))} passages"

    def accepts(self, column: str, value: Any) -> str | None:
        if column == self.passage_column_name and isinstance(value, list | tuple):
            return None if value and is_list_of_texts(value) and not any(map(is_empty, value)) else "a list of texts"
        return super().accepts(column, value)

    def rows(self, texts: Sequence[str]) -> Rows:
        """Return a query and its passages, separated by tabs: one passage, or a list of several."""
        query, passage, _ = self._columns
        if all(text.count("\t") <= 1 for text in texts):
            return split_fields(texts, (query, passage))
        parts = [text.split("\t") for text in texts]
        return {query: [part[0] for part in parts], passage: [part[1:] for part in parts]}

    # ---- the model

    def config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def model_inputs(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return flat_inputs(batch)

    # ---- features

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return lists of token ids, (passages, tokens): of a row or, labelled, of the passages compared at once."""
        passages, queries = self._passages(rows), [text_of(cell) for cell in rows[str(self.query_column_name)]]
        pairs = [(query, text) for query, texts in zip(queries, passages, strict=True) for text in texts]
        encoded = truncated(tokenizer, [[a for a, _ in pairs], [b for _, b in pairs]], self.max_seq_length)
        starts = [0]
        for texts in passages:
            starts.append(starts[-1] + len(texts))
        if not labelled:
            parts = [list(range(a, b)) for a, b in itertools.pairwise(starts)]
            return {key: [[encoded[key][i] for i in part] for part in parts] for key in TENSORS if key in encoded}
        compared = list(self._compared(rows))
        fill = {"input_ids": pad_id(tokenizer), "attention_mask": 1, "token_type_ids": 0}
        features: dict[str, Any] = {
            key: [
                [encoded[key][starts[i] + k] for i, k in places] + [[fill[key]]] * (len(labels) - len(places))
                for places, labels in compared
            ]
            for key in TENSORS
            if key in encoded
        }
        return {
            **features,
            "labels": [labels for _, labels in compared],
            "row": [places[0][0] for places, _ in compared],
        }

    def _compared(self, rows: Rows) -> Iterator[tuple[list[tuple[int, int]], list[float]]]:
        """Yield the places of the passages that are compared at once, and their relevance, filled up to one size."""
        top = self.max_relevance or 1.0
        relevance = [[min(1.0, r / top) for r in row] for row in self._relevance(rows)]
        if self.ranking_loss == "pointwise":
            yield from (([(i, k)], [r]) for i, row in enumerate(relevance) for k, r in enumerate(row))
            return
        for places, labels in self._groups(rows, relevance):
            if len(set(labels)) < 2:
                continue
            order = sorted(range(len(labels)), key=lambda i: -labels[i])
            best = [i for i in order if labels[i] == labels[order[0]]]
            rest = order[len(best) :] if len(order) > self.group_size else []
            size = self.group_size - 1
            parts = [[best[n % len(best)], *rest[a : a + size]] for n, a in enumerate(range(0, len(rest), size))]
            for part in parts or [order]:
                filled = [labels[i] for i in part] + [ABSENT] * (self.group_size - len(part))
                yield [places[i] for i in part], filled

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return functools.partial(nested_batch, tokenizer=tokenizer)

    # ---- outputs

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        from . import ranking_losses

        loss = {
            "pointwise": ranking_losses.pointwise,
            "pairwise": ranking_losses.pairwise,
            "listwise": ranking_losses.listwise,
        }[self.ranking_loss]
        return loss(self._scores(model, batch), batch["labels"].float())

    def _scores(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of a batch, (rows, passages)."""
        scores: Tensor = model(**self.model_inputs(batch)).logits.float()
        return scores.view(batch["input_ids"].shape[:-1])

    def loss_weight(self, batch: Mapping[str, Tensor]) -> float:
        return float(len(batch["input_ids"]))

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return the scores of each row's passages, (passages,)."""
        return list(self._scores(model, batch).cpu().numpy())

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        import numpy as np

        from ..metrics import best_first, ranking
        from ..metrics.retrieval import TOP

        relevance = self._relevance(data)
        gains, ideal, relevant = [], [], []
        for places, labels in self._groups(
            {str(self.query_column_name): data[str(self.query_column_name)][:]}, relevance
        ):
            scores = np.array([predictions[i][k] for i, k in places])
            values = np.array(labels)
            order = best_first(scores[None])[0]
            gains.append(_filled(values[order], TOP))
            ideal.append(_filled(np.sort(values)[::-1][:TOP], TOP))
            relevant.append((values > 0).sum())
        return ranking(np.stack(gains), np.stack(ideal), np.array(relevant))

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        """Return the score of a passage, or a list of passages, the best first."""
        answers: list[dict[str, Any]] = []
        for scores, cell in zip(predictions, stream(data[str(self.passage_column_name)]), strict=True):
            values = expit(scores.astype("float64"))
            if not isinstance(cell, list | tuple):
                answers.append({"score": float(values[0])})
                continue
            order = sorted(range(len(values)), key=lambda i: -values[i])
            answers.append({"ranking": [{"index": i, "passage": cell[i], "score": float(values[i])} for i in order]})
        return answers


def _filled(values: Any, size: int) -> Any:
    import numpy as np

    return np.pad(np.asarray(values, dtype=float), (0, size - len(values)))


def _texts(cell: Any) -> list[str]:
    return [text_of(part) for part in cell] if isinstance(cell, list | tuple) else [text_of(cell)]


def _numbers(cell: Any) -> list[float] | None:
    """Return a relevance, or several, as numbers; None where one isn't."""
    numbers = [number_in(part) for part in (cell if isinstance(cell, list | tuple) else [cell])]
    return None if None in numbers else [float(number or 0) for number in numbers]
