"""Split texts of any script into the words that metrics count."""

from __future__ import annotations

import re
import unicodedata

_UNSPACED_RANGES = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u0e01-\u0e4e\u0e80-\u0ecd\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u103f\u1050-\u108f\u1780-\u17d3"  # Thai to Khmer
)
UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
"""A character of a script that is written without spaces: Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer."""

ZERO_WIDTH_SPACE = "\u200b"


def is_word_character(character: str) -> bool:
    """Return whether a character is a letter, a digit, or a mark on one, such as the vowel signs of Hindi."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, and each character of a script without spaces as a word.

    A combining mark belongs to the character before it, and composed characters equal decomposed ones.

    >>> words("Für 3 Fälle: 北京!")
    ['für', '3', 'fälle', '北', '京']
    """
    result: list[str] = []
    inside = False  # whether the last word continues
    for character in unicodedata.normalize("NFC", text.lower()):
        mark = unicodedata.category(character)[0] == "M"
        if inside and mark:
            result[-1] += character
        elif UNSPACED.match(character):
            result.append(character)
            inside = True
        elif not is_word_character(character):
            inside = inside and character != ZERO_WIDTH_SPACE and unicodedata.category(character) == "Cf"  # a joiner
        elif inside and not UNSPACED.match(result[-1][0]):
            result[-1] += character
        else:
            result.append(character)
            inside = True
    return result


def splits_between(before: str, after: str) -> bool:
    """Return whether a word may end between two characters."""
    if unicodedata.category(after)[0] == "M":
        return False
    if UNSPACED.match(before) or UNSPACED.match(after):
        return True
    return not (is_word_character(before) and is_word_character(after))
