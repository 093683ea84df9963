"""Read texts that are longer than a base takes in overlapping windows of tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .beginnings import beginning

UNCUT = 1 << 30
"""A limit of tokens that no text reaches."""
_OVERLAP = 4  # windows overlap by a quarter of their length
_FURTHEST = 4  # a pair's texts are cut behind so many times the tokens that are read


def longest(ids: Sequence[Any]) -> int:
    """Return the tokens of a text, or of the longest of several texts."""
    return max(map(len, ids)) if ids and not isinstance(ids[0], int) else len(ids)


def in_windows(tokenizer: Any, texts: Sequence[str], max_length: int, **options: Any) -> dict[str, list[Any]]:
    """Return the features of texts, one for each window of a text, with the text's index as `row`.

    Windows overlap by a quarter of `max_length`, the most tokens of one.
    """
    room = max_length - tokenizer.num_special_tokens_to_add() - 1
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        stride=max(0, min(max_length // _OVERLAP, room)),
        return_overflowing_tokens=True,
        **options,
    )
    features = dict(encoded)
    features["row"] = features.pop("overflow_to_sample_mapping")
    return features


def truncated(tokenizer: Any, texts: Sequence[Sequence[str]], max_length: int) -> dict[str, Any]:
    """Return the features of texts or, of two columns, of pairs of texts, cut after `max_length` tokens.

    A fast tokenizer makes a window for every two places at which the texts of a pair are cut, and needs gigabytes where
    both are long. Of such pairs, what follows far behind the last token that is read is removed first.
    """
    if len(texts) == 1:
        texts = [[beginning(tokenizer, text, max_length) for text in texts[0]]]
    if len(texts) == 2:
        pairs = [_shortened(tokenizer, pair, max_length) for pair in zip(*texts, strict=True)]
        texts = [[first for first, _ in pairs], [second for _, second in pairs]]
    return dict(tokenizer(*map(list, texts), truncation=True, max_length=max_length))


def _shortened(tokenizer: Any, pair: Sequence[str], max_length: int) -> Sequence[str]:
    """Return a pair of long texts cut behind the tokens that are read, or unchanged where other tokens would be."""
    most = _FURTHEST * max_length
    if max_length >= UNCUT or not getattr(tokenizer, "is_fast", False):
        return pair
    if min(map(len, pair)) <= most:
        shorter = tokenizer(min(pair, key=len), add_special_tokens=False, verbose=False)
        tokens = max_length + len(shorter["input_ids"])  # the longer text stays the longer one
        return [beginning(tokenizer, text, tokens) for text in pair]
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    before = [tokenizer(text, **options) for text in pair]
    counts = [len(encoded["input_ids"]) for encoded in before]
    if min(counts) <= most:
        return pair
    longer = int(counts[0] <= counts[1])  # a limit that is odd gives one token more to a certain one of both
    cut, after = list(pair), list(before)
    for i in (0, 1):
        end = min(counts[i], 2 * most if i == longer else most)
        cut[i] = pair[i][: before[i]["offset_mapping"][end - 1][1]]
        after[i] = tokenizer(cut[i], **options)
    ids = [encoded["input_ids"] for encoded in (*before, *after)]
    same = [one[:max_length] for one in ids[:2]] == [one[:max_length] for one in ids[2:]]
    return cut if same and int(len(ids[2]) <= len(ids[3])) == longer else pair


def mean_of_windows(outputs: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Return the mean of the outputs of each row's windows; of a single window, its output as it is."""
    by_row: dict[int, list[Any]] = {}
    for output, row in zip(outputs, rows, strict=True):
        by_row.setdefault(row, []).append(output)
    return [windows[0] if len(windows) == 1 else sum(windows) / len(windows) for _, windows in sorted(by_row.items())]


@dataclass(frozen=True)
class _First:
    """The first token of a word in a window."""

    position: int
    start: int  # in characters
    context: float  # tokens of the text before or after it in the window, whichever are fewer


def word_windows(
    tokenizer: Any, texts: Sequence[str], starts: Sequence[Sequence[int]], max_length: int
) -> dict[str, Any]:
    """Return the features of texts in windows; `starts` holds where each word of each text starts.

    A word that several windows hold belongs to the one in which its first token has most context. `word` is the index
    of a window's first word, and `first` holds the position of the first token of each of its words, or -1 for one
    without a token. Windows without a word are dropped, unless their text has no word.
    """
    features = in_windows(tokenizer, texts, max_length, return_offsets_mapping=True)
    offsets, rows = features.pop("offset_mapping"), features["row"]
    windows: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        windows.setdefault(row, []).append(i)
    features["word"], features["first"], used = [0] * len(rows), [[] for _ in rows], []
    for row, indices in windows.items():
        by_window = _words_by_window([offsets[i] for i in indices], starts[row], texts[row])
        for i, words in zip(indices, by_window, strict=True):
            features["word"][i] = words[0][0] if words else 0
            features["first"][i] = [position for _, position in words]
        used += [i for i in indices if features["first"][i]] or indices[:1]
    return {name: [values[i] for i in sorted(used)] for name, values in features.items()}


def _words_by_window(
    windows: Sequence[Sequence[Sequence[int]]], starts: Sequence[int], text: str
) -> list[list[tuple[int, int]]]:
    """Return the words of each window, by index, with the position of each word's first token, or -1."""
    ordered = sorted(range(len(windows)), key=lambda i: max((end for _, end in windows[i]), default=0))
    holding: dict[int, list[tuple[int, _First]]] = {}
    for i in ordered:
        for word, first in _first_tokens(windows[i], starts, text, i == ordered[0], i == ordered[-1]).items():
            holding.setdefault(word, []).append((i, first))
    window = ordered[0]
    result: list[list[tuple[int, int]]] = [[] for _ in windows]
    for word in range(len(starts)):
        held = holding.get(word, [])
        begin = min((first.start for _, first in held), default=0)
        complete = [(i, first) for i, first in held if first.start == begin]
        window, best = max(complete, key=lambda pair: pair[1].context, default=(window, None))
        result[window].append((word, -1 if best is None else best.position))
    return result


def _first_tokens(
    offsets: Sequence[Sequence[int]], starts: Sequence[int], text: str, begins: bool, ends: bool
) -> dict[int, _First]:
    """Return by word the first token in a window that covers any of it.

    Where a window `begins` or `ends` the text, no context before or after its tokens is missing.
    """
    spans = []
    for position, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # some tokenizers count the space before a word to its token
            start += 1
        if start < end:
            spans.append((position, start))
    result: dict[int, _First] = {}
    for i, (position, start) in enumerate(spans):
        before, after = (math.inf if begins else i), (math.inf if ends else len(spans) - 1 - i)
        word = max(0, bisect_right(starts, start) - 1)
        if word not in result:
            result[word] = _First(position, start, min(before, after))
    return result
