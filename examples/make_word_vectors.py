"""Write word vectors, made from the demo's own sentences by counting which words occur together.

python examples/make_word_vectors.py vectors.txt
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from adapterkit.data.readers import rows
from adapterkit.data.splits import demo_files

WINDOW, SIZE = 4, 50

texts = []
for name in ("sentiment", "topics", "nli"):
    for _, row in rows(demo_files(name)["train"]):
        texts += [re.findall(r"\w+", value.lower()) for value in row.values() if isinstance(value, str)]
words = [word for word, count in Counter(word for text in texts for word in text).most_common() if count > 1]
index = {word: i for i, word in enumerate(words)}
counts = np.zeros((len(words), len(words)))
for text in texts:
    indices = [index[word] for word in text if word in index]
    for i, word in enumerate(indices):
        for other in indices[max(0, i - WINDOW) : i]:
            counts[word, other] += 1
            counts[other, word] += 1
expected = counts.sum(1, keepdims=True) @ counts.sum(0, keepdims=True) / counts.sum()
surprise = np.log(np.maximum(counts, 1e-9) / np.maximum(expected, 1e-9)).clip(min=0)  # positive mutual information
left, strengths, _ = np.linalg.svd(surprise)
vectors = left[:, :SIZE] * np.sqrt(strengths[:SIZE])
lines = [f"{word} " + " ".join(f"{x:.5f}" for x in vector) for word, vector in zip(words, vectors, strict=True)]
Path(sys.argv[1]).write_text(f"{len(words)} {SIZE}\n" + "\n".join(lines) + "\n", encoding="utf-8")
print(f"{sys.argv[1]}: {len(words):,} words of {SIZE} dimensions")
