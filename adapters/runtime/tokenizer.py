"""A tokenizer.json with the calls of transformers' tokenizers that tasks make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer

from ..errors import DataError
from .manifest import TokenizerRecord

_PIECES: tuple[tuple[str, str], ...] = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"))
_PIECES += ((" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))
"""What transformers removes the spaces of after decoding, in its order."""


class Encoded(dict[str, Any]):
    """Token ids and what belongs to them, by name, of one text or of several."""

    def __init__(self, values: Mapping[str, Any], encodings: Sequence[Encoding]) -> None:
        super().__init__(values)
        self.encodings = encodings

    def word_ids(self, index: int = 0) -> list[int | None]:
        """Return the word of each token of a text, None for special tokens."""
        return list(self.encodings[index].word_ids)

    def sequence_ids(self, index: int = 0) -> list[int | None]:
        """Return 0 or 1 for each token of a pair, None for special tokens."""
        return list(self.encodings[index].sequence_ids)


class ExportedTokenizer:
    """Tokenizes as the base's tokenizer does. One thread at a time uses it: truncation changes its state."""

    is_fast = True
    padding_side = "right"

    def __init__(self, data: bytes | bytearray, record: TokenizerRecord) -> None:
        """Read the content of tokenizer.json; raises `ValueError` where it is none."""
        try:
            self.backend = Tokenizer.from_buffer(bytes(data))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ValueError(str(error).split("\n")[0]) from error
        self.backend.no_truncation()
        self.backend.no_padding()
        self.model_max_length, self.truncation_side = record.model_max_length, record.truncation_side
        self._input_names, self._clean_up = frozenset(record.model_input_names), record.clean_up
        self._special = record.special_tokens
        self.mask_token, self.mask_token_id = self._token("mask_token")
        self.pad_token, self.pad_token_id = self._token("pad_token")
        self.bos_token, self.bos_token_id = self._token("bos_token")
        self.eos_token, self.eos_token_id = self._token("eos_token")

    def _token(self, role: str) -> tuple[str | None, int | None]:
        token = self._special.get(role)
        return token, None if token is None else self.backend.token_to_id(token)

    @property
    def chat_template(self) -> str:
        """Raise `DataError`: templates need transformers."""
        raise DataError("chats need transformers for their template; pass texts, or answer with --runtime torch")

    def __call__(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool | str = False,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> Encoded:
        """Return the features of a text, or of a list of texts, as transformers' tokenizers do."""
        several = isinstance(texts, list | tuple)
        inputs = (list(zip(texts, pairs, strict=True)) if pairs is not None else list(texts)) if several else [texts]
        if not several and pairs is not None:
            inputs = [(texts, pairs)]
        if truncation:
            strategy = "longest_first" if truncation is True else truncation
            limit = self.model_max_length if max_length is None else max_length
            self.backend.enable_truncation(limit, stride=stride, strategy=strategy, direction=self.truncation_side)
        else:
            self.backend.no_truncation()
        encodings, owners = [], []
        for row, encoding in enumerate(self.backend.encode_batch(inputs, add_special_tokens=add_special_tokens)):
            windows = [encoding, *encoding.overflowing] if return_overflowing_tokens else [encoding]
            encodings += windows
            owners += [row] * len(windows)
        values: dict[str, Any] = {"input_ids": [e.ids for e in encodings]}
        if "token_type_ids" in self._input_names:
            values["token_type_ids"] = [e.type_ids for e in encodings]
        if "attention_mask" in self._input_names:
            values["attention_mask"] = [e.attention_mask for e in encodings]
        if return_offsets_mapping:
            values["offset_mapping"] = [e.offsets for e in encodings]
        if not several and not return_overflowing_tokens:
            return Encoded({name: column[0] for name, column in values.items()}, encodings)
        if return_overflowing_tokens:
            values["overflow_to_sample_mapping"] = owners
        return Encoded(values, encodings)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens a text has, or a pair of texts."""
        return int(self.backend.num_special_tokens_to_add(pair))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        if self._clean_up:
            for spaced, joined in _PIECES:
                text = text.replace(spaced, joined)
        return text

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))
