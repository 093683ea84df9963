"""Static word vectors as a base: read word2vec, GloVe and fastText files, and make a small transformers model of them.

A table is word2vec's text or binary form, GloVe's text, or fastText's `.vec`, gzipped or not; which one it is, is told
from its content. Of a word that stands in a file twice the first row counts. What is no UTF-8 in a word becomes U+FFFD.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

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

from ..errors import BaseModelError

PAD, UNK = "<pad>", "<unk>"
SPELLINGS = {PAD: (PAD, "<PAD>", "[PAD]"), UNK: (UNK, "<UNK>", "[UNK]", "UNK")}
"""How files spell the rows for padding and for unknown words; the first that is there is taken."""

_SAMPLE = 1 << 18  # bytes looked at to tell what a file is: the first row of a table lies within
_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")  # never in text, and soon in floats
_OTHERS = {
    b"PK\x03\x04": "a zip archive, to be unpacked first",
    b"\xba\x16\x4f\x2f": "a fastText model, whose vectors are in the .vec beside it",
    b"\x80": "a pickle, which can hold code",
    b"BZh": "compressed by bzip2, to be unpacked first",
    b"\xfd7zXZ": "compressed by xz, to be unpacked first",
}

Row = tuple[str, str, Any]  # where it stands, the word, its numbers: bytes in decimal or an array


@dataclass(frozen=True)
class Layout:
    """How a table is written."""

    binary: bool
    rows: int | None  # as the header says; None where there is no header
    dim: int


def why_not(path: str) -> str | None:
    """Say what a file is (`is empty`) if not word vectors, judged by how it begins; return None if it is."""
    if not os.path.isfile(path):
        return "is not a regular one"
    try:
        with _open(path) as file:
            sample = file.read(_SAMPLE)
    except (OSError, EOFError, zlib.error) as error:
        return f"can't be read: {getattr(error, 'strerror', None) or error}"
    if _layout(sample) is not None:
        return None
    if not sample:
        return "is empty"
    what = next((what for magic, what in _OTHERS.items() if sample.startswith(magic)), None)
    return f"is {what}" if what else f"begins with {_shown(sample)}"


def load(path: str) -> tuple[Any, Any]:
    """Return a table of word vectors as a transformers model, `WordVectors`, and its tokenizer.

    Rows keep their order; a row of zeros for padding and the mean of all rows for unknown words follow where the file
    has none. Texts are lower-cased where fewer than one word of a hundred has an upper-case letter.
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


def read(path: str) -> tuple[dict[str, int], np.ndarray]:
    """Return a table as rows by word and a float32 array, (rows and at least two unused ones, dim).

    Raises `BaseModelError`, with file and line, at the first row that isn't as the others or as the header says.
    """
    try:
        with _open(path) as file:
            layout = _layout(file.read(_SAMPLE))
        if layout is None:
            raise BaseModelError(f"{path}: no word vectors; the file {why_not(path)}")
        with _open(path) as file:
            rows = (_binary_rows if layout.binary else _text_rows)(path, file, layout)
            return _filled(path, layout, rows)
    except (OSError, EOFError, zlib.error) as error:
        raise BaseModelError(f"{path}: can't be read to its end: {error}") from error
    except MemoryError as error:
        raise BaseModelError(f"{path}: too large for this machine: {error}") from error


@np.errstate(over="ignore")  # what is too large for float32 is refused below
def _filled(path: str, layout: Layout, rows: Iterator[Row]) -> tuple[dict[str, int], np.ndarray]:
    words: dict[str, int] = {}
    vectors = np.empty((_capacity(path, layout), layout.dim), np.float32)
    found = 0
    for where, word, numbers in rows:
        found += 1
        n = len(words)
        if n + 2 >= len(vectors):
            vectors = _doubled(vectors, n)
        try:
            vectors[n] = numbers
        except ValueError:
            wrong = next(number for number in numbers if not _is_number(number))
            raise BaseModelError(f"{where}: {_shown(wrong)} after '{word}' is not a number") from None
        if not np.isfinite(vectors[n]).all():
            raise BaseModelError(f"{where}: a number after '{word}' is not finite in float32")
        words.setdefault(word, n)
    if not found:
        raise BaseModelError(f"{path}: no rows" + ("" if layout.rows is None else f"; its header says {layout.rows}"))
    if layout.rows not in (None, found):
        raise BaseModelError(f"{path}: its header says {layout.rows} rows, but there are {found}")
    return words, vectors


def _capacity(path: str, layout: Layout) -> int:
    """Return how many rows to make room for: what the header says, if the file can hold that many."""
    size = os.path.getsize(path) * (1032 if _is_gzip(path) else 1)  # gzip can't do better than 1032 to 1
    least = layout.dim * (4 if layout.binary else 2)
    if layout.rows and least > size:
        raise BaseModelError(f"{path}: its header says rows of {layout.dim} numbers, more than the file can hold")
    return min(1024 if layout.rows is None else layout.rows, size // least + 1) + 3


def _doubled(vectors: np.ndarray, used: int) -> np.ndarray:
    larger = np.empty((2 * len(vectors), vectors.shape[1]), np.float32)  # what is never written takes no memory
    larger[:used] = vectors[:used]
    return larger


def _text_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    expected = f"{layout.dim} were expected, as in {'the first row' if layout.rows is None else 'the header'}"
    for line, text in enumerate(file, start=1):
        fields = text.removeprefix(_BOM).split() if line == 1 else text.split()
        if not fields or (line == 1 and layout.rows is not None):
            continue
        end = max(len(fields) - layout.dim, 1)  # some of GloVe's words hold spaces: `. . .`, `at name@domain.com`
        if len(fields) != end + layout.dim or any(map(_is_number, fields[1:end])):
            raise BaseModelError(f"{path}:{line}: {len(fields) - 1} numbers after {_shown(fields[0])}, but {expected}")
        yield f"{path}:{line}", _decoded(b" ".join(fields[:end])), fields[end:]


def _binary_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    file.readline()
    buffer, at, size = b"", 0, 4 * layout.dim
    for row in range(1, (layout.rows or 0) + 1):
        where = f"{path}: row {row} of {layout.rows}"
        while (space := buffer.find(b" ", at)) < 0 or len(buffer) <= space + size:
            more = file.read(_CHUNK)
            if not more:
                raise BaseModelError(f"{where}: the file ends within it; a word and {layout.dim} floats were expected")
            if space < 0 and len(buffer) - at > _CHUNK:
                raise BaseModelError(f"{where}: no space ends its word; the header's {layout.dim} may be wrong")
            buffer, at = buffer[at:] + more, 0
        yield where, _decoded(buffer[at:space].lstrip(b"\n")), np.frombuffer(buffer, "<f4", layout.dim, space + 1)
        at = space + 1 + size
    if (buffer[at:] + file.read(_CHUNK)).strip():
        raise BaseModelError(f"{path}: its header says {layout.rows} rows of {layout.dim} floats, but more follows")


def _layout(sample: bytes) -> Layout | None:
    """Tell how a table is written from how it begins; None if it isn't one."""
    first, _, rest = sample.removeprefix(_BOM).partition(b"\n")
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields) and int(fields[1]):
        return Layout(not _is_text(rest, int(fields[1])), int(fields[0]), int(fields[1]))
    numbers = sum(map(_is_number, fields[1:]))
    if _CONTROL.search(first) or len(fields) < 3 or 2 * numbers <= len(fields) - 1:
        return None
    return Layout(False, None, len(fields) - 1)


def _is_text(body: bytes, dim: int) -> bool:
    """Tell whether numbers are written in decimal, from what follows the header."""
    row = body.partition(b"\n")[0]
    if not _CONTROL.search(row) and sum(map(_is_number, row.split()[1:])) == dim:
        return True
    return not _CONTROL.search(body) and "\ufffd" not in _decoded(body[:-4])  # the last letter may be cut


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _open(path: str) -> BinaryIO:
    return gzip.open(path, "rb") if _is_gzip(path) else open(path, "rb")  # type: ignore[return-value]


def _is_gzip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _decoded(word: bytes) -> str:
    return word.decode("utf-8", "replace")


def _shown(data: bytes) -> str:
    """Return the beginning of the first line of `data`, quoted."""
    line = _decoded(data[:160].partition(b"\n")[0].strip())
    return repr(line if len(line) <= 40 else line[:40] + "…")


def _is_lower(words: Mapping[str, int]) -> bool:
    special = {spelt for spellings in SPELLINGS.values() for spelt in spellings}
    return sum(word != word.lower() and word not in special for word in words) * 100 < len(words)


def _digest(words: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    for word, _ in sorted(words.items(), key=lambda item: item[1]):
        digest.update(f"{len(word)} {word}\n".encode())
    return digest.hexdigest()


def _tokenizer(words: dict[str, int], lower: bool) -> Any:
    """Return a tokenizer of whole words and single punctuation marks that are rows of the table, or else unknown."""
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
    """The size of a table, and which words it is for."""

    model_type = "word-vectors"

    vocab_size: int = 2
    hidden_size: int = 300
    pad_token_id: int | None = 0
    do_lower_case: bool = False
    vocabulary: str = ""  # SHA-256 of the words in order, so that a fingerprint tells two tables apart by them
    initializer_range: float = 0.02
    classifier_dropout: float = 0.1


class _PreTrained(transformers.PreTrainedModel):  # type: ignore[misc]
    config_class = WordVectorsConfig
    base_model_prefix = "word_vectors"
    accepts_loss_kwargs = False  # extra arguments are taken, as other models take them, and have no meaning here


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
            raise ValueError("give input_ids or inputs_embeds, one of them")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids.long())  # type: ignore[union-attr]  # [[]] comes as floats
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
        found = self.word_vectors(input_ids, attention_mask, inputs_embeds, output_hidden_states)
        logits = self.classifier(self.dropout(found.pooler_output))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)


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
        found = self.word_vectors(input_ids, attention_mask, inputs_embeds, output_hidden_states)
        logits = self.classifier(self.dropout(found.last_hidden_state))
        loss = None if labels is None else self.loss_function(logits=logits, labels=labels, config=self.config)
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)


def register() -> None:
    """Make transformers' Auto classes know word vectors; calling it again changes nothing."""
    transformers.AutoConfig.register(WordVectorsConfig.model_type, WordVectorsConfig, exist_ok=True)
    for auto, model in (
        (transformers.AutoModel, WordVectors),
        (transformers.AutoModelForSequenceClassification, WordVectorsForSequenceClassification),
        (transformers.AutoModelForTokenClassification, WordVectorsForTokenClassification),
    ):
        auto.register(WordVectorsConfig, model, exist_ok=True)
