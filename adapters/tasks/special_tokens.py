"""Remarks on texts that hold special tokens of the tokenizer, such as [SEP] or </s>, which it reads as these tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import printable

MOST = 5
"""The most tokens that a remark names."""


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

    def _is_read(self, token: str) -> bool:
        if token not in self.read:
            ids = self.tokenizer(f"a {token} b", add_special_tokens=False, verbose=False)["input_ids"]
            self.read[token] = self.tokenizer.convert_tokens_to_ids(token) in ids
        return self.read[token]


def _text(value: Any) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)
