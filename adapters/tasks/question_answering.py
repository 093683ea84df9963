"""Extractive question answering: the span of a context that answers a question, or that there is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.answer_places import Place, locate
from ..data.column_types import LINE
from ..errors import DataError
from .answer_forms import answers_of, is_form
from .columns import choose, each, split_fields, stream, visible
from .input_checks import check_inputs
from .probabilities import expit
from .task import Rows, Task
from .values import is_missing, text_of, texts_of

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

ANSWERS = ("answers", "answer", "answer_text")
START = "answer_start"
"""The column with the place of an answer that is a text, where a file has one."""
AMBIGUOUS = (
    "the answer has no answer_start and occurs several times in its context; the first occurrence is used, of whole "
    "words before parts of words"
)
MISPLACED = (
    "the answer isn't at its answer_start; the only occurrence near it, or at that offset in bytes or UTF-16 units, "
    "is used"
)
SPACED = "the answer and its context differ in spaces, line ends or composed characters; the context's are used"
Span = dict[str, Any]
"""A predicted answer: text, start, end (characters), score, and null_score, how much better no answer scores."""

_VERDICTS = {"yes", "no", "true", "false"}


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """Find the span that answers a question; long contexts are split into overlapping windows."""

    name: ClassVar[str] = "question-answering"
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    best: ClassVar[str] = "f1"
    always_windows: ClassVar[bool] = True
    label_names: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")
    probe_unit: ClassVar[Literal["text", "token"] | None] = "token"
    peft_task_type: ClassVar[str | None] = "QUESTION_ANS"
    also_reads: ClassVar[tuple[str, ...]] = ("is_impossible", START)
    metadata: ClassVar[tuple[str, ...]] = ("title",)
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "question_column_name": ("question",),
        "context_column_name": ("context",),
        "answer_column_name": ("answers",),
    }

    max_seq_length: Annotated[int, "tokens of a question and a window of its context", "--max-length"] = 384
    doc_stride: Annotated[int, "tokens by which the windows of a long context overlap"] = 128
    n_best_size: Annotated[int, "how many starts and ends of each window are paired"] = 20
    max_answer_length: Annotated[int, "longest answer, in tokens"] = 30
    question_column_name: Annotated[str | None, "column of the question", "--question-column"] = None
    context_column_name: Annotated[str | None, "column of the context", "--context-column"] = None
    answer_column_name: Annotated[str | None, "column of the answers", "--answer-column"] = None
    version_2_with_negative: Annotated[bool, "some questions have no answer; inferred from the training rows"] = False
    null_score_diff_threshold: Annotated[
        float, "threshold from which a question counts as unanswerable; chosen on the validation rows"
    ] = 0.0

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        return "question" in first and "context" in first and bool({*ANSWERS} & set(first))

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        return replace(
            self,
            question_column_name=choose(
                "the question", "--question-column-name", self.question_column_name, names, ("question", "query")
            ),
            context_column_name=choose(
                "the context",
                "--context-column-name",
                self.context_column_name,
                names,
                ("context", "passage", "paragraph"),
            ),
            answer_column_name=choose("the answer", "--answer-column-name", self.answer_column_name, names, ANSWERS),
        )

    @property
    def _columns(self) -> tuple[str, str, str]:
        return str(self.question_column_name), str(self.context_column_name), str(self.answer_column_name)

    def describe_columns(self) -> str:
        return "{} + {} -> {}".format(*self._columns)

    def summary(self) -> str:
        return "some questions have no answer" if self.version_2_with_negative else "every question has an answer"

    def fit(self, train: Dataset) -> Self:
        negative = not all(self._references(train))
        return replace(self, version_2_with_negative=self.version_2_with_negative or negative)

    def parses(self, column: str, cell: str) -> bool:
        return column == self.answer_column_name and is_form(cell)

    def check(self, data: Dataset, file: str) -> None:
        answer = self._columns[2]
        check_inputs(self, data, file)
        if answer not in data.column_names:
            raise DataError(
                f"{file}: no column '{answer}'; there are {', '.join(visible(data.column_names))}; without answers, "
                "rows can be predicted, but neither trained on nor evaluated"
            )
        impossible = data["is_impossible"] if "is_impossible" in data.column_names else [None] * len(data)
        for line, row, stated in zip(stream(data[LINE]), self._answer_rows(data), stream(impossible), strict=True):
            try:
                places = _places(*row)
            except ValueError as error:
                raise DataError(f"{file}:{line}: {error}") from error
            if places and str(stated).lower() in ("true", "1"):
                raise DataError(f"{file}:{line}: is_impossible, and has the answer '{places[0].text[:40]}'")

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        if all(is_missing(value) or value == "" for value in stream(data[self._columns[2]])):
            raise DataError(f"{file}: no row has answers; such rows can be predicted, but not trained on or evaluated")
        rows = list(zip(stream(data[LINE]), (_places(*row) for row in self._answer_rows(data)), strict=True))
        remarks = []
        for how, text in (("first", AMBIGUOUS), ("corrected", MISPLACED), ("spaced", SPACED)):
            lines = [line for line, places in rows if any(place.how == how for place in places)]
            remarks += [f"{file}: {_counted(lines)}: {text}"] if lines else []
        empty = [line for line, value in each(data, LINE, self._columns[2]) if is_missing(value) or value == ""]
        remarks += [f"{file}: {_counted(empty)}: no answer, so the question counts as unanswerable"] if empty else []
        return remarks

    def _answer_rows(self, rows: Dataset | Rows) -> Iterator[tuple[Any, str, Any]]:
        """Yield for each row its answers as written, its context, and the written place of an answer."""
        _, context, answer = self._columns
        values = stream(rows[answer]), map(text_of, stream(rows[context]))
        names = getattr(rows, "column_names", rows)
        starts = stream(rows[START]) if START in names else itertools.repeat(None)
        return zip(*values, starts, strict=False)

    def _references(self, data: Dataset) -> list[list[str]]:
        """Return the accepted answers of each row; none where its question can't be answered."""
        places = self._answer_rows(data)
        return [[text for text, _ in answers_of(value, start)] for value, _, start in places]

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return a feature for each window: `row` is its row in the batch, `offsets` the spans of its tokens.

        A token outside the context has the place (-1, -1). The label of a window without the answer is its first token.
        Raises `DataError` where a question leaves no room for its context.
        """
        question, context, _ = self._columns
        questions, stride = (
            [text.strip() for text in texts_of(rows[question])],
            min(self.doc_stride, self.max_seq_length // 3),
        )
        self._check_room(questions, tokenizer, stride)
        encoded = tokenizer(
            questions,
            texts_of(rows[context]),
            truncation="only_second",
            max_length=self.max_seq_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        features = dict(encoded)
        features["row"] = features.pop("overflow_to_sample_mapping")
        offsets = features.pop("offset_mapping")
        features["offsets"] = [
            [
                list(place) if part == 1 else [-1, -1]
                for place, part in zip(places, encoded.sequence_ids(i), strict=True)
            ]
            for i, places in enumerate(offsets)
        ]
        if labelled:
            spans = [_spans(*row) for row in self._answer_rows(rows)]
            windows = zip(features["offsets"], features["row"], strict=True)
            labels = [_window_label(offsets, *spans[row]) for offsets, row in windows]
            features["start_positions"] = [start for start, _ in labels]
            features["end_positions"] = [end for _, end in labels]
        return features

    def _check_room(self, questions: list[str], tokenizer: Any, stride: int) -> None:
        most = self.max_seq_length - tokenizer.num_special_tokens_to_add(pair=True) - stride - 1
        for text, ids in zip(questions, tokenizer(questions, add_special_tokens=False)["input_ids"], strict=True):
            if len(ids) > most:
                raise DataError(
                    f"the question '{text[:40]}' has {len(ids)} tokens; beside a context, max_seq_length="
                    f"{self.max_seq_length} has room for {most}"
                )

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        from transformers import DataCollatorWithPadding

        pad = DataCollatorWithPadding(tokenizer)

        def padded(features: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = pad([{k: v for k, v in f.items() if k not in ("row", "offsets")} for f in features])
            return batch

        return padded

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean of the two cross-entropies over positions; unlike in transformers, padding is no candidate.

        A position is no class, so there is nothing to smooth.
        """
        from torch.nn.functional import cross_entropy

        places = [batch["start_positions"], batch["end_positions"]]
        output = model(**{key: value for key, value in batch.items() if not key.endswith("_positions")})
        padding = batch["attention_mask"] == 0 if "attention_mask" in batch else None
        loss: Tensor = output.start_logits.new_zeros(())
        for logits, place in zip((output.start_logits, output.end_logits), places, strict=True):
            candidates = logits if padding is None else logits.masked_fill(padding, -1e4)
            loss = loss + cross_entropy(candidates, place) / 2
        return loss

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        inputs = {key: value for key, value in batch.items() if not key.endswith("_positions")}
        output = model(**inputs)
        return self.outputs_of(
            {name: getattr(output, name).float().cpu().numpy() for name in ("start_logits", "end_logits")}
        )

    def outputs_of(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        return list(zip(arrays["start_logits"], arrays["end_logits"], strict=True))

    def probe_outputs(self, config: Any) -> int:
        return 2  # how well a token starts an answer, and ends one

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from transformers.loss.loss_utils import ForQuestionAnsweringLoss
        from transformers.modeling_outputs import QuestionAnsweringModelOutput

        scores = scores.masked_fill(~mask.bool().unsqueeze(-1), -1e4)
        starts, ends = scores.unbind(-1)
        places = labels.get("start_positions"), labels.get("end_positions")
        loss = None if places[0] is None else ForQuestionAnsweringLoss(starts, ends, *places)
        return QuestionAnsweringModelOutput(loss=loss, start_logits=starts, end_logits=ends)

    def probe_targets(self, labels: Mapping[str, Tensor], counts: Sequence[int], choices: int | None) -> Tensor:
        import torch

        lengths = torch.as_tensor(counts)
        starts = lengths.cumsum(0) - lengths
        targets = torch.zeros(int(lengths.sum()), 2)
        for i, name in enumerate(self.label_names):
            targets[starts + labels[name], i] = 1.0
        return targets

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        assert data is not None
        best: list[Span | None] = [None] * len(data)
        null = [float("inf")] * len(data)
        contexts = texts_of(data[self._columns[1]][:])
        for (starts, ends), row, offsets in zip(outputs, features["row"], features["offsets"], strict=True):
            null[row] = min(null[row], float(starts[0] + ends[0]))
            span = self._best_span(starts, ends, offsets)
            before = best[row]
            if span and (before is None or span["score"] > before["score"]):
                best[row] = {**span, "text": contexts[row][span["start"] : span["end"]]}
        empty: Span = {"text": "", "start": 0, "end": 0, "score": -1e4}
        return [
            {**(span or empty), "null_score": n - (span or empty)["score"]} for span, n in zip(best, null, strict=True)
        ]

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        best = self.predictions(outputs, features, data)
        rows: list[dict[tuple[int, int], float]] = [{} for _ in best]
        for (starts, ends), row, offsets in zip(outputs, features["row"], features["offsets"], strict=True):
            for score, i, j in self._span_scores(starts, ends, offsets):
                place = offsets[i][0], offsets[j][1]
                rows[row][place] = max(float(score), rows[row].get(place, -1e9))
        answers, contexts = [], texts_of(data[self._columns[1]])
        for first, spans, context in zip(best, rows, contexts, strict=True):
            surplus = self.null_score_diff_threshold - first["null_score"] - first["score"]
            scored = {(i, j): float(expit(score + surplus)) for (i, j), score in spans.items()}
            if not self._text(first):
                scored[0, 0] = float(expit(-first["score"] - surplus))
            ranked = sorted(scored.items(), key=lambda item: -item[1])[: self.n_best_size]
            answers.append([{"answer": context[i:j], "start": i, "end": j, "score": p} for (i, j), p in ranked])
        return answers

    def _best_span(self, starts: Any, ends: Any, offsets: Sequence[Sequence[int]]) -> Span | None:
        pairs = self._span_scores(starts, ends, offsets)
        if not pairs:
            return None
        score, i, j = max(pairs)
        return {"start": offsets[i][0], "end": offsets[j][1], "score": float(score)}

    def _span_scores(self, starts: Any, ends: Any, offsets: Sequence[Sequence[int]]) -> list[tuple[Any, int, int]]:
        """Return score, first and last token of the likeliest spans of a window."""
        inside = [i for i, (begin, _) in enumerate(offsets) if begin >= 0]
        firsts = sorted(inside, key=lambda i: -starts[i])[: self.n_best_size]
        lasts = sorted(inside, key=lambda i: -ends[i])[: self.n_best_size]
        return [(starts[i] + ends[j], i, j) for i in firsts for j in lasts if i <= j < i + self.max_answer_length]

    def _text(self, span: Span) -> str:
        unanswerable = self.version_2_with_negative and span["null_score"] > self.null_score_diff_threshold
        return "" if unanswerable else str(span["text"])

    def calibrate(self, predictions: Sequence[Any], data: Dataset) -> Self:
        if not self.version_2_with_negative:
            return self
        from ..metrics import best_threshold

        references = self._references(data)
        scores, texts = [span["null_score"] for span in predictions], [span["text"] for span in predictions]
        threshold, _ = best_threshold(scores, texts, references)
        return replace(self, null_score_diff_threshold=float(threshold))

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import squad

        return squad([self._text(span) for span in predictions], self._references(data))

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        answers = []
        for span in predictions:
            text = self._text(span)
            place = {"start": span["start"], "end": span["end"]} if text else {"start": None, "end": None}
            surplus = self.null_score_diff_threshold - span["null_score"]  # of this span over no answer
            answers.append({"answer": text, **place, "score": float(expit(surplus if text else -surplus))})
        return answers

    def rows(self, texts: Sequence[str]) -> Rows:
        question, context, _ = self._columns
        return split_fields(texts, (question, context))


def _places(value: Any, context: str, start: Any = None) -> list[Place]:
    """Return the answers of a row in its context; none for a question without answers.

    Raises `ValueError` for an answer that isn't in the context, or not where it should be.
    """
    places = []
    for text, written in answers_of(value, start):
        if (place := locate(text, written, context)) is None:
            at = "" if written is None else f" at {written}"
            labels = "; yes and no are labels of text-classification, whose texts are question and context"
            hint = labels if text.strip().lower() in _VERDICTS else ""
            raise ValueError(f"the answer '{text[:40]}' is not in the context{at}{hint}")
        places.append(place)
    return places


def _spans(value: Any, context: str, start: Any = None) -> tuple[list[str], list[int]]:
    """Return the answers of a row and where each starts; empty for no answer."""
    places = _places(value, context, start)
    return [place.text for place in places], [place.start for place in places]


def _counted(lines: Sequence[int]) -> str:
    """Return how many rows there are, and the line of the first.

    >>> _counted([7, 9])
    '2 rows (first at line 7)'
    """
    return f"{len(lines):,} row{'s' * (len(lines) > 1)} (first at line {lines[0]})"


def _window_label(offsets: Sequence[Sequence[int]], texts: Sequence[str], starts: Sequence[int]) -> tuple[int, int]:
    """Return the first and last token of the first answer in a window, or (0, 0) where it isn't entirely inside."""
    if not texts:
        return 0, 0
    begin, end = starts[0], starts[0] + len(texts[0])
    inside = [i for i, (start, stop) in enumerate(offsets) if start >= 0 and stop > begin and start < end]
    places = [place for place in offsets if place[0] >= 0]
    if not inside or places[0][0] > begin or places[-1][1] < end:
        return 0, 0
    return inside[0], inside[-1]
