r"""Cut texts into words as the words of the training rows were: rules that are learned from these words.

A rule is a tuple of texts, as a manifest stores it: a name and, for `punctuation`, what it doesn't split off.

| rule | words |
|---|---|
| `characters` | each character (grapheme cluster) |
| `punctuation` | runs of letters, digits and marks; each other character is a word of its own |
| `whitespace` | what is between spaces |
| () | `\w+` and single other characters, as adapters without a rule were used |

No rule but () splits a grapheme cluster: an emoji sequence, or a letter with its marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import regex

from ..errors import OptionError

Rule = tuple[str, ...]

RULES = ("characters", "punctuation", "whitespace")
SETTINGS = {
    "inside": "a character that is part of a word between letters: O'Brien, Baden-Baden",
    "digits": "a character that is part of a word between digits: 1,000",
    "leading": "a character that is part of the word after it: #tag",
    "trailing": "a character that is part of the word before it: 50%",
    "suffix": "an end of a word that is a word: 's, n't",
    "prefix": "a begin of a word that is a word: l', d'",
    "word": "a word with punctuation: Mr., :-)",
    "segmented": "mean length of the words of scripts that are written without spaces",
}
FLAGS = {
    "initials": "U.S. and e.g. are words",
    "initial": "J. is a word",
    "runs": "a character that is repeated is one word: ...",
    "urls": "a URL is one word",
    "each": "each character of scripts that are written without spaces is a word",
}

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc\uff70]"
"""Letters of scripts that are written without spaces between words."""
SPACE = r"[\s\x1c-\x1f\u200b]"
INVISIBLE = r"\x00-\x08\x0e-\x1b\x7f\u00ad\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
"""Controls, soft hyphens, joiners and marks of direction: no part of a word at its ends."""
APOSTROPHE = r"['\u2019]"
LETTER = r"[\p{L}\p{N}\p{M}\p{Pc}]"
_URL = r"(?:https?://|www\.)(?:(?!{space})\X)+(?<![.,!?;:)\]'\"])"


def check_rule(rule: Rule) -> None:
    """Raise `OptionError` where a rule, which may be anyone's, has an unknown name or setting."""
    if not rule:
        return
    if rule[0] not in RULES:
        raise OptionError(f"--word-split must begin with one of {', '.join(RULES)}, got '{rule[0]}'")
    for setting in rule[1:]:
        name, separator, value = setting.partition("=")
        if name not in (SETTINGS if separator else FLAGS) or (separator and not value):
            raise OptionError(f"--word-split: unknown setting '{setting}'; available: {', '.join((*SETTINGS, *FLAGS))}")
        if len(value) > 64:
            raise OptionError(f"--word-split: a setting has at most 64 characters, got {len(value)}")
    _segmented(rule)


def split(text: str, rule: Rule) -> list[tuple[int, int]]:
    """Return start and end, in characters, of each word of a text."""
    if not rule:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    if not is_segmented(text, rule):
        rule = (*rule, "each")
    return [match.span("word") for match in regex.finditer(_pattern(rule), text) if match["word"]]


def is_segmented(text: str, rule: Rule) -> bool:
    """Return whether a text has spaces between words where the words of its script had them in training.

    Words of Chinese, Thai and the like that are longer than a character follow no rule; a text is taken for segmented
    where its runs between spaces are at most twice as long as these words were, on average.
    """
    if (length := _segmented(rule)) is None:
        return True
    runs = regex.findall(rf"{UNSPACED}+", text)
    return not runs or sum(map(len, runs)) <= 2 * length * len(runs)


def _segmented(rule: Rule) -> float | None:
    values = [setting.removeprefix("segmented=") for setting in rule if setting.startswith("segmented=")]
    try:
        return float(values[0]) if values else None
    except ValueError:
        raise OptionError(f"--word-split: segmented must be a number, got '{values[0]}'") from None


def _pattern(rule: Rule) -> str:
    """Return the pattern whose matches are the clusters of a text in order; the group `word` holds those of words.

    Every alternative ends at the end of a grapheme cluster, and spaces are matched too: so each match begins at one.
    """
    visible = rf"(?![{INVISIBLE}])(?!{SPACE})\X"
    if rule[0] == "characters":
        words = visible
    elif rule[0] == "whitespace":
        each = rf"(?={UNSPACED})\X|" if "each" in rule else ""
        stop = rf"(?!{UNSPACED})" if each else ""
        words = rf"{each}{visible}(?:(?:{stop}(?!{SPACE})\X)*{stop}{visible})?"
    else:
        words = "|".join(_alternatives(rule, visible))
    return rf"(?P<word>{words})|\X"


def _alternatives(rule: Rule, visible: str) -> list[str]:
    """Return the patterns of the words of `punctuation`, the first that matches is the word."""
    values: dict[str, list[str]] = {name: [] for name in SETTINGS}
    for setting in rule[1:]:
        name, separator, value = setting.partition("=")
        if separator:
            values[name].append(value)
    any_of = {name: _any_of(texts) for name, texts in values.items()}
    for name in ("suffix", "prefix"):  # either apostrophe
        any_of[name] = f"(?i:{any_of[name]})".replace("'", APOSTROPHE)
    unspaced = rf"(?!{UNSPACED})" if "each" in rule else ""
    letter = rf"(?={LETTER}){unspaced}\X"
    suffix = rf"{any_of['suffix']}(?!{LETTER})"
    inside = (
        rf"(?:(?<!\p{{N}}){any_of['inside']}(?={LETTER})|{any_of['inside']}(?=(?!\p{{N}}){LETTER})"
        rf"|(?<=\p{{N}}){any_of['digits']}(?=\p{{N}}))"
    )
    word = rf"{letter}(?:(?!{suffix})(?:[{INVISIBLE}]*{letter}|{inside}{letter}))*"
    optional = {
        "urls": _URL.format(space=SPACE),
        "each": rf"(?={UNSPACED})\X",
        "initials": rf"(?<!{LETTER})(?:\p{{L}}\.){{2,}}",
        "initial": rf"(?<!{LETTER})\p{{Lu}}\.(?!{LETTER})",
    }
    return [
        rf"(?<!{LETTER}){any_of['word']}(?!{LETTER})",
        *(pattern for flag, pattern in optional.items() if flag in rule),
        suffix,
        rf"(?<!{LETTER}){any_of['prefix']}",
        rf"(?:{any_of['leading']}(?={LETTER}))?{word}{any_of['trailing']}?",
        *([rf"(?P<one>{visible})(?P=one)+"] if "runs" in rule else []),
        visible,
    ]


def _any_of(texts: Sequence[str]) -> str:
    """Return a pattern of any of some texts, followed by no mark that belongs to their last character."""
    if not texts:
        return r"(?!)"
    either = "|".join(regex.escape(text) for text in sorted(texts, key=lambda t: (-len(t), t)))
    return rf"(?:(?:{either})(?!\p{{M}}|[\u200c\u200d]))"
