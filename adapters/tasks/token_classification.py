"""Token classification: a tag for each word; entities as spans with character offsets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..data.column_types import LINE
from ..errors import DataError, printable
from .columns import TAGS, check_labels, check_weights, choose, labels_of, labels_of_head, shown, stream, visible
from .language_modeling import IGNORED
from .losses import weighted_loss
from .probabilities import softmax
from .tag_schemes import UNANNOTATED, TagScheme, canonical, detect, scheme_remarks
from .task import Rows, Task
from .values import is_empty
from .windows import word_windows
from .word_rules import MOST_SENTENCES, NEARLY_ALL, Sentence, learn, reproduced
from .word_split import check_rule, is_segmented, split

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..metrics import Metrics

TEXT = "text"
"""The column of a row's text, in which its words have their offsets."""
UNSEGMENTED = "the text has no spaces between words, unlike the training rows; each character was taken for a word"


@dataclass(frozen=True, kw_only=True)
class TokenClassification(Task):
    """Tag each word; the label is on the first sub-token of a word, and the loss ignores the others."""

    name: ClassVar[str] = "token-classification"
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    probe_unit: ClassVar[Literal["text", "token"] | None] = "token"
    peft_task_type: ClassVar[str | None] = "TOKEN_CLS"
    newer_options: ClassVar[frozenset[str]] = frozenset({"tag_scheme", "word_split"})
    label_options: ClassVar[frozenset[str]] = Task.label_options | {"tag_scheme"}
    also_reads: ClassVar[tuple[str, ...]] = ("text",)
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_column_name": ("tokens",),
        "label_column_name": ("ner_tags",),
    }
    text_column_name: Annotated[tuple[str, ...], "column of the words, or of the text", "--text-column"] = ()
    label_column_name: Annotated[str | None, "column of the tags", "--label-column", "--tags-column"] = None
    labels: Annotated[tuple[str, ...], "the tags in order; by default those of the training rows, sorted"] = ()
    class_weight: Annotated[Literal["balanced", "none"], "weigh rare tags more, as scikit-learn does"] = "none"
    label_weights: Annotated[tuple[str, ...], "a weight for each tag, in their order; or --class-weight"] = ()
    tag_scheme: Annotated[
        TagScheme | None,
        "how tags mark entities: prefixed (B-PER), suffixed (PER-B), untyped (B), types (PER), or words (they don't); "
        "by default as in training",
    ] = None
    word_split: Annotated[
        tuple[str, ...],
        "how texts are cut into words: whitespace, punctuation or characters; by default as in training",
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.word_split)

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        words = first.get("tokens", first.get("words"))
        return isinstance(words, list) and any(
            isinstance(first.get(name), list) and len(first[name]) == len(words) for name in TAGS
        )

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        words = choose(
            "the words", "--text-column-name", next(iter(self.text_column_name), None), names, ("tokens", "words")
        )
        tags = choose("the tags", "--label-column-name", self.label_column_name, names, TAGS, [words])
        return replace(self, text_column_name=(words,), label_column_name=tags)

    @property
    def _words(self) -> str:
        return self.text_column_name[0]

    @property
    def _tags(self) -> str:
        return str(self.label_column_name)

    def describe_columns(self) -> str:
        return f"{self._words} -> {self._tags}"

    def summary(self) -> str:
        read = self._canonical.values() if self.tag_scheme else self.labels
        types = {tag.partition("-")[2] for tag in read} - {""}
        return (
            f"{len(types)} {'type' if len(types) == 1 else 'types'} of entity: {', '.join(sorted(types))}"
            if types
            else shown(self.labels)
        )

    def fit(self, train: Dataset) -> Self:
        scheme = self.tag_scheme or detect(str(tag) for row in stream(train[self._tags]) for tag in row)
        unannotated = {UNANNOTATED} if scheme != "words" else set()
        labels = self.labels or labels_of({str(t) for row in stream(train[self._tags]) for t in row} - unannotated)
        if scheme == "prefixed" and not self.labels:
            labels = _closed(labels)
        if len(labels) < 2:
            raise DataError(f"all words of the training rows have the tag '{labels[0]}' in column '{self._tags}'")
        weights = check_weights(self.label_weights, labels)
        if self.class_weight == "balanced":
            flat = [str(tag) for row in stream(train[self._tags]) for tag in row if str(tag) in labels]
            weights = tuple(f"{len(flat) / (len(labels) * max(flat.count(tag), 1)):.6g}" for tag in labels)
        rule = self.word_split or learn(self._sample(train)).rule
        return replace(self, labels=labels, label_weights=weights, word_split=rule, tag_scheme=scheme)

    def _sentences(self, data: Dataset) -> Iterator[Sentence]:
        """Yield the words of each row, and its text where the rows have one."""
        has_texts = TEXT in data.column_names and self._words != TEXT
        texts = stream(data[TEXT]) if has_texts else itertools.repeat(None)
        for words, text in zip(stream(data[self._words]), texts, strict=False):
            yield words, text if isinstance(text, str) else None

    def _sample(self, data: Dataset) -> Iterator[Sentence]:
        """Yield the words of evenly spaced rows, and their texts."""
        return itertools.islice(self._sentences(data), 0, None, max(1, len(data) // MOST_SENTENCES))

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        result = reproduced(self.word_split, self._sample(data))
        remarks = []
        if self.word_split and result.share < NEARLY_ALL:
            remarks.append(
                f"{file}: texts are cut into words by '{self.word_split[0]}', which reproduces the words of "
                f"{result.reproduced:,} of {result.sentences:,} rows; predict from lists of words instead of texts"
            )
        if any(setting.startswith("segmented=") for setting in self.word_split):
            remarks.append(
                f"{file}: words of a script without spaces are longer than a character, and no rule finds them in a "
                "text; predict from lists of words, or from texts with spaces between words"
            )
        if "0" in self.labels and not {"O", "o"} & {*self.labels}:
            remarks.append(
                f"{file}: '0' is learned as a tag like others, as no word has the tag O (the letter), which words "
                "outside of entities have; replace zeros by it, and numbers of tags by names"
            )
        remarks += [f"{file}: {text}" for text in _word_remarks(stream(data[self._words]))]
        if self.tag_scheme:
            if count := sum(self._is_unannotated(tag) for row in stream(data[self._tags]) for tag in row):
                remarks.append(
                    f"{file}: {count:,} words with the tag '-', not annotated, are neither learned nor measured"
                )
            rows = stream(data[self._tags])
            remarks += [f"{file}: {r}" for r in scheme_remarks(self._canonical, self.tag_scheme, rows)]
        return remarks

    def check(self, data: Dataset, file: str) -> None:
        for column in (self._words, self._tags):
            if column not in data.column_names:
                raise DataError(f"{file}: no column '{column}'; there are {', '.join(visible(data.column_names))}")
        for line, words, tags in zip(
            stream(data[LINE]), stream(data[self._words]), stream(data[self._tags]), strict=True
        ):
            if words is not None and any(not isinstance(w, str) or not w for w in words):
                raise DataError(f"{file}:{line}: a word is empty or no text")
            if words and is_empty(words):
                raise DataError(f"{file}:{line}: {self._words} is empty")
            if not words or tags is None or len(words) != len(tags):
                raise DataError(f"{file}:{line}: {len(words or [])} words, but {len(tags or [])} tags")
        if self.labels:
            rows = stream(data[self._tags])
            check_labels(
                data, file, ([tag for tag in row if not self._is_unannotated(tag)] for row in rows), self.labels
            )

    def labels_by_row(self, data: Dataset) -> Iterator[Sequence[str]]:
        return ([str(tag) for tag in tags] for tags in stream(data[self._tags]))

    def config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    def matching_head(self, count: Callable[[], int], names: Mapping[int, str]) -> Self:
        return replace(self, labels=labels_of_head(self.labels, count(), names))

    @property
    def head_starts_solved(self) -> bool:
        return len(self.labels) > 2  # below, it gained nothing (docs/explanation/training-cost.md)

    def accepts(self, column: str, value: Any) -> str | None:
        words = isinstance(value, list) and all(isinstance(word, str) and word for word in value)
        return None if isinstance(value, str) or words else "a text or a list of words"

    @property
    def reads_windows(self) -> bool:
        return True

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return a feature for each window of a row, with its words, as `word_windows` does."""
        texts, starts = zip(*(_joined(words) for words in rows[self._words]), strict=True)
        features = word_windows(tokenizer, texts, starts, self.max_seq_length)
        if labelled:
            index = {label: i for i, label in enumerate(self.labels)}
            features["labels"] = []
            windows = zip(*(features[name] for name in ("input_ids", "row", "word", "first")), strict=True)
            for ids, row, word, first in windows:
                labels = [IGNORED] * len(ids)
                for position, tag in zip(first, rows[self._tags][row][word : word + len(first)], strict=True):
                    if position >= 0 and not self._is_unannotated(tag):
                        labels[position] = index.get(str(tag), IGNORED)
                features["labels"].append(labels)
        return features

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        from transformers import DataCollatorForTokenClassification

        pad = DataCollatorForTokenClassification(tokenizer)

        def padded(features: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = pad(
                [{k: v for k, v in f.items() if k not in ("row", "word", "first")} for f in features]
            )
            return batch

        return padded

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        if not (label_smoothing or self.label_weights):
            return super().loss(model, batch)
        return weighted_loss(model, batch, [float(w) for w in self.label_weights] or None, label_smoothing)

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        from transformers.loss.loss_utils import ForTokenClassification
        from transformers.modeling_outputs import TokenClassifierOutput

        target = labels.get("labels")
        loss = None if target is None else ForTokenClassification(scores, target, config)
        return TokenClassifierOutput(loss=loss, logits=scores)

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        """Return the logits of each row's words, (words, labels); a word without a token is outside any entity."""
        import numpy as np

        outside = next((i for i, label in enumerate(self.labels) if label.upper() == "O"), 0)
        nothing = np.where(np.arange(len(self.labels)) == outside, 0.0, -1e4)
        count = len(data) if data is not None else max(features["row"], default=-1) + 1
        parts: list[list[tuple[int, Any]]] = [[] for _ in range(count)]
        windows = zip(outputs, *(features[name] for name in ("row", "word", "first")), strict=True)
        for logits, row, word, first in windows:
            if first:
                parts[row].append((word, np.stack([logits[i] if i >= 0 else nothing for i in first])))
        empty = np.zeros((0, len(self.labels)))
        ordered = (sorted(part, key=lambda window: window[0]) for part in parts)
        return [np.concatenate([logits for _, logits in part]) if part else empty for part in ordered]

    def _tagged(self, predictions: Sequence[Any]) -> list[list[str]]:
        return [[self.labels[i] for i in logits.argmax(-1)] for logits in predictions]

    @property
    def _has_entities(self) -> bool:
        if self.tag_scheme:
            return self.tag_scheme != "words"
        return all(label == "O" or label[:2] in ("B-", "I-", "E-", "S-", "L-", "U-") for label in self.labels)

    @property
    def _canonical(self) -> dict[str, str]:
        """The tags with their position before their type, by label."""
        return canonical(self.labels, self.tag_scheme or "prefixed")

    def _is_unannotated(self, tag: Any) -> bool:
        marks_entities = self.tag_scheme not in (None, "words")
        return marks_entities and str(tag) == UNANNOTATED and UNANNOTATED not in self.labels

    def _pairs(self, predictions: Sequence[Any], data: Dataset) -> tuple[list[list[str]], list[list[str]]]:
        """Return the true and the predicted tags of the annotated words, with positions before types."""
        tags_of_rows = {str(tag) for tags in stream(data[self._tags]) for tag in tags} - {UNANNOTATED}
        read = canonical((*self.labels, *sorted(tags_of_rows - {*self.labels})), self.tag_scheme or "prefixed")
        truth, guess = [], []
        for tags, predicted in zip(stream(data[self._tags]), self._tagged(predictions), strict=True):
            pairs = [(str(t), g) for t, g in zip(tags, predicted, strict=True) if not self._is_unannotated(t)]
            truth.append([read[t] for t, _ in pairs])  # a tag of no training row is never guessed
            guess.append([read[g] for _, g in pairs])
        return truth, guess

    @property
    def best(self) -> str:  # type: ignore[override]
        """The metric by which the best epoch is chosen: of entities, or of words where tags are parts of speech."""
        return "f1" if self._has_entities else "accuracy"

    def _flat(self, predictions: Sequence[Any], data: Dataset) -> tuple[list[int], list[int]]:
        index = {label: i for i, label in enumerate(self.labels)}
        truth = [index.get(str(tag), IGNORED) for row in stream(data[self._tags]) for tag in row]
        return truth, [int(i) for logits in predictions for i in logits.argmax(-1)]

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import classification, entities

        if not self._has_entities:
            truth, guess = self._flat(predictions, data)
            other = len(self.labels)  # a tag that no training row has, and that is never guessed
            return classification([t if t >= 0 else other for t in truth], guess, other + 1)
        return entities(*self._pairs(predictions, data))

    def tables(self, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
        from ..metrics import entity_table, label_table

        if not self._has_entities:
            pairs = [pair for pair in zip(*self._flat(predictions, data), strict=True) if pair[0] >= 0]
            truth, guess = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            return {"per_label": label_table(truth, guess, list(self.labels))}
        return {"per_type": entity_table(*self._pairs(predictions, data))}

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        """Return the entities of each row, with character offsets in the text (in the words joined by spaces)."""
        from ..metrics import entity_spans

        answers: list[dict[str, Any]] = []
        if not self._has_entities:
            rows = zip(stream(data[self._words]), self._tagged(predictions), strict=True)
            return [{"tags": [f"{word}/{tag}" for word, tag in zip(*row, strict=True)]} for row in rows]
        read = self._canonical
        for (words, text), logits in zip(self._sentences(data), predictions, strict=True):
            shares = softmax(logits.astype("float64"), axis=-1)
            text, places = _placed(words, text)
            spans = entity_spans([read[self.labels[i]] for i in logits.argmax(-1)])
            unsegmented = {} if is_segmented(text, self.word_split) else {"remark": UNSEGMENTED}
            answers.append({"entities": [_entity(text, places, shares, span) for span in spans], **unsegmented})
        return answers

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        from ..metrics import entity_spans

        rows, read = [], self._canonical if self._has_entities else {}
        for (words, text), logits in zip(self._sentences(data), self.predictions(outputs, features, data), strict=True):
            tags = [self.labels[i] for i in logits.argmax(-1)]
            spans = entity_spans([read[t] for t in tags]) if read else [(t, i, i + 1) for i, t in enumerate(tags)]
            placed, shares = _placed(words, text), softmax(logits.astype("float64"), axis=-1)
            entities = [_entity(*placed, shares, span) for span in spans]
            rows.append([{"entity_group": e.pop("entity"), "word": e.pop("text"), **e} for e in entities])
        return rows

    def rows(self, texts: Sequence[str]) -> Rows:
        words = [[text[start:end] for start, end in split(text, self.word_split)] for text in texts]
        return {TEXT: list(texts), self._words: words}


def _closed(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Add the tags that rare types of entity lack: each type gets every prefix that any of them has."""
    parts = [label.split("-", 1) for label in labels if label != "O"]
    if not all(len(part) == 2 and len(part[0]) == 1 for part in parts):
        return labels
    prefixes, types = {prefix for prefix, _ in parts}, {kind for _, kind in parts}
    return labels_of([*(f"{prefix}-{kind}" for prefix in prefixes for kind in types), *({"O"} & set(labels))])


def _joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """Return the words joined by spaces, and where each begins."""
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(str(word)) + 1
    return " ".join(map(str, words)), starts


def _placed(words: Sequence[str], text: str | None) -> tuple[str, list[tuple[int, int]]]:
    """Return a text and the character offsets of its words: the words joined by spaces where they aren't in `text`."""
    places, at = [], 0
    for word in map(str, words):
        start = -1 if text is None else text.find(word, at)
        if start < 0:
            return _placed(words, _joined(words)[0])
        at = start + len(word)
        places.append((start, at))
    return text or "", places


def _entity(text: str, places: Sequence[tuple[int, int]], shares: Any, span: tuple[str, int, int]) -> dict[str, Any]:
    kind, first, last = span
    start, end = places[first][0], places[last - 1][1]
    score = float(shares[first:last].max(-1).mean())
    return {"entity": kind, "text": text[start:end], "start": start, "end": end, "score": score}


def _word_remarks(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield how many words look like the pieces that a tokenizer cuts words into."""
    pieces = [str(word) for row in rows for word in row if str(word)[:2] == "##" and len(str(word)) > 2]
    if pieces:
        yield f"{len(pieces):,} words begin with ##, as pieces of words do ('{printable(pieces[0])}'): read as words"
