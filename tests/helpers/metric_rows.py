"""Rows to measure: texts, tags, and a comparison of floats."""

from __future__ import annotations

import math
import random

TEXTS = [
    *("the cat sat on the mat .", "A cat sat on a mat!", "It's 3.5%, isn't it?", "Hello, world", "the the the the"),
    *("Der Hund läuft — schnell…", "猫 が 座る", "", "   ", "the", "U.S.A. vs. U.K.", "ünïcödé a an the", "x"),
    *("don't stop, don't stop", "(hi) [there]", "1,000.50 and 2-3", "tab\tand\nline", "An", "a . b ! c ?", "!!!"),
]


def close(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


LETTERS = {"IOB1": "OIIIB", "IOB2": "OOBII", "BIOES": "OOBIES"}


def tag_soup(rng: random.Random, letters: str, sentences: int) -> list[list[str]]:
    """Return sentences of tags in any order, most of them against their scheme."""

    def tag() -> str:
        letter = rng.choice(letters)
        return letter if letter == "O" else letter + rng.choice(["-PER", "-LOC", "-a-b", "-PER", ""])

    return [[tag() for _ in range(rng.randint(1, 9))] for _ in range(sentences)]
