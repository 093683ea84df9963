"""Cut a long text before it is tokenized, where its first tokens are certain to be those of the whole text."""

from __future__ import annotations

from typing import Any

_CHARACTERS = 16
"""The characters that are tried first for each token to be read."""
_LARGER = 4
"""How much longer the next beginning is where one wasn't enough."""
_WORDS = 3
"""The words behind the last token to be read, so that it is no part of one that is cut or joined with the next."""


def beginning(tokenizer: Any, text: str, tokens: int) -> str:
    """Return the beginning of a text that has the first `tokens` tokens of it, or the text itself.

    A tokenizer splits a text into words from left to right, and tokenizes each by itself. Tokens are therefore those of
    the text if some words follow them in the beginning. Where they don't, as in a run of spaces or with tokenizers that
    have no words, a longer beginning is tried, and at last the text is returned.
    """
    size = _CHARACTERS * tokens
    if not getattr(tokenizer, "is_fast", False) or tokenizer.truncation_side != "right":
        return text
    while _LARGER * size < len(text):
        if _is_enough(tokenizer, text[:size], tokens):
            return text[:size]
        size *= _LARGER
    return text


def _is_enough(tokenizer: Any, part: str, tokens: int) -> bool:
    """Return whether the first tokens of the beginning of a text are certain to be those of the text."""
    encoded = tokenizer(part, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    words = encoded.word_ids()
    if len(words) <= tokens or words[tokens - 1] is None or words[-1] is None:
        return False
    rest = part[encoded["offset_mapping"][tokens - 1][1] :]
    # digits may be grouped from the right of their run
    return words[-1] - words[tokens - 1] >= _WORDS and not rest.strip().isnumeric()
