"""Texts with a label as pairs of positives: each text beside another of its label."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


def positives(labels: Sequence[str]) -> list[tuple[int, int]]:
    """Return the indices of pairs of equal labels, each text once as the first; a label's only text has no pair.

    The same labels give the same pairs.
    """
    by_label: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        by_label.setdefault(label, []).append(i)
    partner: dict[int, int] = {}
    draw = np.random.default_rng(0)
    for rows in by_label.values():
        order = [rows[i] for i in draw.permutation(len(rows))]
        if len(order) > 1:
            partner |= dict(zip(order, [*order[1:], order[0]], strict=True))
    return sorted(partner.items())


def label_number(label: str) -> int:
    """Return a number for a label, equal for equal labels in every batch of rows."""
    return zlib.crc32(label.encode())
