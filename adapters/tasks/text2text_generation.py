"""Text-to-text generation: translation, summarization and the like, by an encoder-decoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..data.blank import is_blank
from ..data.column_types import LINE
from ..errors import DataError, TaskError
from .beginnings import beginning
from .cells import from_cell
from .columns import (
    check_filled,
    choose,
    each,
    first_of,
    holds_texts,
    optional_field,
    require,
    stream,
    visible,
)
from .input_checks import check_inputs
from .language_modeling import IGNORED, generated, pad_id, padded, token_losses
from .task import Rows, Task
from .values import is_empty, single_text_of, text_of
from .windows import UNCUT

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..base.base import Base
    from ..metrics import Metrics

SOURCES = ("source", "document", "article", "instruction", "input", "text", "src", "dialogue", "prompt", "question")
TARGETS = (
    *("target", "summary", "highlights", "output", "translation", "tgt", "completion", "response", "answer"),
    "label",  # of doccano's export, whose layout is that of labels
)
ASKING, INPUTS = ("instruction", "prompt", "question"), ("input", "context")
"""The columns of a source that may be about a text in another column, and the columns of that."""


@dataclass(frozen=True, kw_only=True)
class Text2TextGeneration(Task):
    """Turn one text into another: translate, summarize, rewrite."""

    name: ClassVar[str] = "text2text-generation"
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    best: ClassVar[str] = "loss"
    lower_is_better: ClassVar[bool] = True
    new_head: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    peft_task_type: ClassVar[str | None] = "SEQ_2_SEQ_LM"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "source_column_name": ("source",),
        "target_column_name": ("target",),
    }

    newer_options: ClassVar[frozenset[str]] = frozenset({"input_column_name"})

    max_seq_length: Annotated[int, "cut sources after this many tokens", "--max-source-length", "--max-length"] = 256
    max_target_length: Annotated[int, "cut targets after this many tokens, and generate no more"] = 128
    source_column_name: Annotated[str | None, "column of the source", "--source-column"] = None
    input_column_name: Annotated[str | None, "column of what a source is about, read after it", "--input-column"] = None
    target_column_name: Annotated[str | None, "column of the target", "--target-column", "--summary-column"] = None
    source_lang: Annotated[str | None, "language to translate from, in rows of {translation: {en: …, de: …}}"] = None
    target_lang: Annotated[str | None, "language to translate to"] = None
    source_prefix: Annotated[str, "prefix of each source, as T5 expects: 'translate English to German: '"] = ""
    num_beams: Annotated[int, "beams of the search; 1 is greedy decoding"] = 1

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        names = list(first)
        return isinstance(first.get("translation"), Mapping) or (
            first_of(SOURCES, names) is not None
            and isinstance(first.get(first_of(TARGETS, names) or ""), str)
            and first_of(("summary", "highlights", "target", "tgt"), names) is not None
            and first_of(("source", "document", "article", "src", "dialogue"), names) is not None
        )

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, self.input_column_name)
        if "translation" in names and not self.source_column_name and not first_of(SOURCES, names):
            return replace(self, source_column_name="translation", target_column_name="translation")
        source = choose("the source", "--source-column-name", self.source_column_name, names, SOURCES)
        others = [name for name in names if name != source]
        target = choose("the target", "--target-column-name", self.target_column_name, others, TARGETS, [source])
        about = first_of(INPUTS, names, without=[source, target]) if source.lower() in ASKING else None
        about = self.input_column_name or about
        return replace(self, source_column_name=source, input_column_name=about, target_column_name=target)

    @property
    def optional_columns(self) -> frozenset[str]:
        return frozenset(filter(None, [self.input_column_name]))

    def may_be_empty(self, column: str) -> bool:
        return column in self.optional_columns

    @property
    def _translates(self) -> bool:
        return self.source_column_name == self.target_column_name

    def describe_columns(self) -> str:
        if self._translates:
            return f"translation.{self.source_lang} -> translation.{self.target_lang}"
        read = " + ".join(filter(None, [self.source_column_name, self.input_column_name]))
        return f"{read} -> {self.target_column_name}"

    def fit(self, train: Dataset) -> Self:
        if not self._translates or (self.source_lang and self.target_lang):
            return self
        languages = list(_sides(train[str(self.source_column_name)][0]))
        source = self.source_lang or next((lang for lang in languages if lang != self.target_lang), None)
        target = self.target_lang or next((lang for lang in languages if lang != source), None)
        if source is None or target is None:
            raise DataError(f"a translation has two languages; the first row has {', '.join(languages)}")
        return replace(self, source_lang=source, target_lang=target)

    def _sources(self, rows: Rows | Dataset) -> list[str]:
        """Return the sources with their prefix, each with what it is about on a line of its own."""
        values = stream(rows[str(self.source_column_name)])
        if self._translates:
            return [self.source_prefix + text_of(_sides(value)[str(self.source_lang)]) for value in values]
        names = getattr(rows, "column_names", rows)
        column = self.input_column_name
        about = stream(rows[column]) if column and column in names else itertools.repeat("")
        pairs = zip(map(text_of, values), map(text_of, about), strict=False)
        return [self.source_prefix + "\n".join(part for part in pair if not is_blank(part)) for pair in pairs]

    def _targets(self, rows: Rows | Dataset) -> list[str]:
        values = stream(rows[str(self.target_column_name)])
        if self._translates:
            return [single_text_of(_sides(value)[str(self.target_lang)]) for value in values]
        return [single_text_of(value) for value in values]

    def check(self, data: Dataset, file: str) -> None:
        source, target = str(self.source_column_name), str(self.target_column_name)
        if not self._translates:
            check_inputs(self, data, file)
        check_filled(data, file, source, target)
        for line, value in each(data, LINE, target):
            try:
                self._check_pair(value) if self._translates else single_text_of(value)
            except ValueError as error:
                raise DataError(f"{file}:{line}: {target} {error}") from error

    def _check_pair(self, value: Any) -> None:
        """Raise `ValueError` where a translation lacks a language; any two will do before they are chosen."""
        sides = _sides(value)
        for language in filter(None, (self.source_lang, self.target_lang)):
            if is_empty(sides.get(language)):
                raise ValueError(f"has no '{language}'; it has {', '.join(sides)}")
            single_text_of(sides[language])

    def accepts(self, column: str, value: Any) -> str | None:
        if not self.source_lang:
            return super().accepts(column, value)
        fits = isinstance(value, str) or holds_texts(value, self.source_lang)
        return None if fits else f"a text or an object with '{self.source_lang}'"

    def check_base(self, base: Base) -> None:
        if not base.model.config.is_encoder_decoder:
            raise TaskError(f"'{base.name}' is no encoder-decoder such as T5; use --task text-generation")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        features = self.prompts(rows, tokenizer)
        encoded = tokenizer(text_target=self._targets(rows), truncation=True, max_length=self.max_target_length)
        return {**features, "labels": encoded["input_ids"]}

    def prompts(self, rows: Rows, tokenizer: Any) -> dict[str, Any]:
        sources = [beginning(tokenizer, text, self.max_seq_length) for text in self._sources(rows)]
        encoded = tokenizer(sources, truncation=True, max_length=self.max_seq_length)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    def lengths(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, list[int]]:
        uncut = replace(self, max_seq_length=UNCUT, max_target_length=UNCUT)
        features = uncut.tokenize(rows, tokenizer, labelled=False) if labelled else uncut.prompts(rows, tokenizer)
        names = {"max_seq_length": "input_ids", "max_target_length": "labels"}
        return {option: list(map(len, features[name])) for option, name in names.items() if name in features}

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        fill = {"input_ids": pad_id(tokenizer), "attention_mask": 0, "labels": IGNORED}
        return lambda features: padded(features, fill)

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return for each feature the summed negative log-likelihood of its labels, and how many there are."""
        return token_losses(model(**batch).logits, batch["labels"])

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import perplexity

        return perplexity([loss for loss, _ in predictions], [count for _, count in predictions])

    @property
    def generation(self) -> dict[str, Any]:
        return {"max_new_tokens": self.max_target_length, "num_beams": self.num_beams, "do_sample": False}

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any, **options: Any) -> list[str]:
        return generated(model, batch, tokenizer, **{**self.generation, **options})

    def references(self, data: Dataset) -> list[str] | None:
        return self._targets(data)

    def rows(self, texts: Sequence[str]) -> Rows:
        if self._translates:
            return {"translation": [{self.source_lang: text, self.target_lang: ""} for text in texts]}
        if not self.input_column_name:
            return {str(self.source_column_name): list(texts)}
        return optional_field(texts, str(self.source_column_name), self.input_column_name)


def _sides(value: Any) -> Mapping[str, Any]:
    """Return the texts of a translation by language, from an object or a table's cell of one.

    Raises `ValueError` for anything else.
    """
    sides = from_cell(value, lambda inner: isinstance(inner, dict)) if isinstance(value, str) else value
    if not isinstance(sides, Mapping):
        raise ValueError(f"is {str(value)[:60]}, but an object with a text in each language was expected")
    return sides
