"""Remarks on texts that hold special tokens of the tokenizer, such as [SEP], or mostly words that it doesn't know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import printable

MOST = 5
"""The most tokens that a remark names."""
_SAMPLE, _CHARACTERS = 1_000, 2_000
"""The most texts of a column, and characters of each, that are tokenized to count unknown words."""


class SpecialTokens:
    """The special tokens that a tokenizer reads inside of texts."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        tokens = {token.content for token in added if token.special} | {*getattr(tokenizer, "all_special_tokens", ())}
        longest_first = sorted(filter(None, tokens), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self.read: dict[str, bool] = {}  # whether a token in a text is read as one, of those that occurred

    def remarks(self, column: str, values: Iterable[Any]) -> Iterator[str]:
        """Yield how many cells of a column hold such tokens, and which; of lists and objects, all of their texts."""
        count = 0
        tokens: dict[str, None] = {}
        for value in values:
            if matches := [token for token in self.pattern.findall(_text(value)) if self._is_read(token)]:
                count += 1
                tokens |= dict.fromkeys(matches)
        if count:
            named = ", ".join(f"'{printable(token)}'" for token in [*tokens][:MOST])
            rows = "1 row holds" if count == 1 else f"{count:,} rows hold"
            yield (
                f"{rows} special tokens of the tokenizer in column '{column}' ({named}{', …' * (len(tokens) > MOST)}): "
                "read as tokens, not as text"
            )

    def unknown_remarks(self, column: str, values: Sequence[Any]) -> Iterator[str]:
        """Yield how many texts of a column, or of a sample of it, are mostly the token of unknown words."""
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        cells = values[:: -(-len(values) // _SAMPLE) or 1]
        texts = [text[:_CHARACTERS] for cell in cells if (text := _words_of(cell))]
        if unknown is None or not texts:
            return
        rows = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        if count := sum(2 * ids.count(unknown) > len(ids) for ids in rows):
            yield (
                f"{count:,} of {len(texts):,} texts in column '{column}' are mostly words that the tokenizer doesn't "
                f"know, read as {self.tokenizer.unk_token}"
            )

    def _is_read(self, token: str) -> bool:
        if token not in self.read:
            ids = self.tokenizer(f"a {token} b", add_special_tokens=False, verbose=False)["input_ids"]
            self.read[token] = self.tokenizer.convert_tokens_to_ids(token) in ids
        return self.read[token]


def _words_of(value: Any) -> str:
    """Return a text, or a list of words as a text; empty for any other value, and for JSON."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    return value if isinstance(value, str) and value[:1] not in ("[", "{") else ""


def _text(value: Any) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)
