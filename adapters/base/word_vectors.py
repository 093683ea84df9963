"""Static word vectors as a base: read word2vec, GloVe and fastText files, and make a small transformers model of them.

A table is word2vec's text or binary form, GloVe's text, or fastText's `.vec`, gzipped or not; the format is
inferred from the content. Of a word with several rows, the first is used. Bytes that aren't UTF-8 become U+FFFD.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .word_vector_files import read

PAD, UNK = "<pad>", "<unk>"
SPELLINGS = {PAD: (PAD, "<PAD>", "[PAD]"), UNK: (UNK, "<UNK>", "[UNK]", "UNK")}
"""The spellings of the padding and unknown words in files, in order of preference."""


def load(path: str) -> tuple[Any, Any]:
    """Return a table of word vectors as a transformers model, `WordVectors`, and its tokenizer.

    Rows are in the file's order; where it has none for them, a row of zeros for padding and the mean of all rows for
    unknown words are appended. Texts are lower-cased where fewer than one word in a hundred has an upper-case letter.
    Raises `BaseModelError`, with file and line, where the file isn't such a table or is damaged.
    """
    register()
    words, vectors = read(path)
    size = len(words)
    for special, value in ((UNK, lambda: vectors[:size].mean(axis=0, dtype=np.float64)), (PAD, lambda: 0.0)):
        spelt = next((word for word in SPELLINGS[special] if word in words), None)
        if spelt is None:
            vectors[len(words)] = value()
            words[special] = len(words)
        else:
            words[special] = words.pop(spelt)
    lower = _is_lower(words)
    config = WordVectorsConfig(
        vocab_size=len(words),
        hidden_size=vectors.shape[1],
        pad_token_id=words[PAD],
        do_lower_case=lower,
        vocabulary=_digest(words),
    )
    with torch.device("meta"):
        model = WordVectors(config)
    model.embeddings.weight = nn.Parameter(torch.from_numpy(vectors[: len(words)]))  # the array itself, not a copy
    return model.eval(), _tokenizer(words, lower)


def _is_lower(words: Mapping[str, int]) -> bool:
    special = {spelt for spellings in SPELLINGS.values() for spelt in spellings}
    return sum(word != word.lower() and word not in special for word in words) * 100 < len(words)


def _digest(words: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    for word, _ in sorted(words.items(), key=lambda item: item[1]):
        digest.update(f"{len(word)} {word}\n".encode())
    return digest.hexdigest()


def _tokenizer(words: dict[str, int], lower: bool) -> Any:
    """Return a tokenizer into words and single punctuation marks; those without a row are unknown."""
    inner = Tokenizer(models.WordLevel(words, unk_token=UNK))
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "isolated")]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        unk_token=UNK,
        model_input_names=["input_ids", "attention_mask"],
    )


class WordVectorsConfig(transformers.PretrainedConfig):  # type: ignore[misc]
    """The size of a table, and a digest of its vocabulary."""

    model_type = "word-vectors"

    vocab_size: int = 2
    hidden_size: int = 300
    pad_token_id: int | None = 0
    do_lower_case: bool = False
    vocabulary: str = ""  # SHA-256 of the words in order, so that fingerprints depend on them
    initializer_range: float = 0.02
    classifier_dropout: float = 0.1


class _PreTrained(transformers.PreTrainedModel):  # type: ignore[misc]
    config_class = WordVectorsConfig
    base_model_prefix = "word_vectors"
    accepts_loss_kwargs = False  # forward ignores extra arguments


class WordVectors(_PreTrained):
    """Look up each token's vector, (batch, tokens, dim), and pool by the mean over those that aren't padding."""

    _input_embed_layer = "embeddings"

    def __init__(self, config: WordVectorsConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Return `last_hidden_state`, (batch, tokens, dim), and `pooler_output`, (batch, dim): zeros without a token.

        Without an `attention_mask`, tokens that aren't `pad_token_id` count.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids.long())  # type: ignore[union-attr]  # [[]] is a float tensor
        if attention_mask is None:
            attention_mask = (
                inputs_embeds.new_ones(inputs_embeds.shape[:2])
                if input_ids is None
                else input_ids != self.config.pad_token_id
            )
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=inputs_embeds,
            pooler_output=mean(inputs_embeds, attention_mask),
            hidden_states=(inputs_embeds,) if wanted else None,
        )


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `hidden`, (batch, tokens, dim), over the tokens where `mask` isn't 0; zeros if there is none.

    >>> mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    weights = mask.to(hidden.dtype).unsqueeze(-1)  # (batch, tokens, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class WordVectorsForSequenceClassification(_PreTrained):
    """Put dropout and a linear map on the pooled vector."""

    def __init__(self, config: WordVectorsConfig) -> None:
        super().__init__(config)
        self.word_vectors = WordVectors(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Return `logits`, (batch, num_labels), and `loss` where there are `labels`, by the config's problem_type."""
        output = self.word_vectors(input_ids, attention_mask, inputs_embeds, output_hidden_states)
        logits = self.classifier(self.dropout(output.pooler_output))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)


class WordVectorsForTokenClassification(_PreTrained):
    """Put dropout and a linear map on each token's vector."""

    def __init__(self, config: WordVectorsConfig) -> None:
        super().__init__(config)
        self.word_vectors = WordVectors(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> TokenClassifierOutput:
        """Return `logits`, (batch, tokens, num_labels), and `loss` where there are `labels`; -100 doesn't count."""
        output = self.word_vectors(input_ids, attention_mask, inputs_embeds, output_hidden_states)
        logits = self.classifier(self.dropout(output.last_hidden_state))
        loss = None if labels is None else self.loss_function(logits=logits, labels=labels, config=self.config)
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)


def register() -> None:
    """Register word vectors with transformers' Auto classes; repeated calls have no effect."""
    transformers.AutoConfig.register(WordVectorsConfig.model_type, WordVectorsConfig, exist_ok=True)
    for auto, model in (
        (transformers.AutoModel, WordVectors),
        (transformers.AutoModelForSequenceClassification, WordVectorsForSequenceClassification),
        (transformers.AutoModelForTokenClassification, WordVectorsForTokenClassification),
    ):
        auto.register(WordVectorsConfig, model, exist_ok=True)
