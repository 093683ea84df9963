"""Rows and questions for each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WORDS = [
    "lovely",
    "food",
    "awful",
    "film",
    "great",
    "staff",
    "dull",
    "hotel",
    "rude",
    "waiter",
    "fine",
    "train",
    "broken",
    "phone",
    "perfect",
    "evening",
]


def sentence(i: int) -> list[str]:
    return [WORDS[(i * 7 + j * 3) % len(WORDS)] for j in range(3 + i % 4)]


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "text-classification": lambda i: {"text": " ".join(sentence(i)), "label": "ab"[i % 2]},
    "token-classification": lambda i: {
        "tokens": sentence(i),
        "ner_tags": [("O", "B-X", "I-X", "B-Y")[(i + j) % 4] for j in range(len(sentence(i)))],
    },
    "question-answering": lambda i: {
        "question": "what is it?",
        "context": " ".join(sentence(i) * 3),
        "answers": {"text": [sentence(i)[1]], "answer_start": [len(sentence(i)[0]) + 1]}
        if i % 4
        else {"text": [], "answer_start": []},
    },
    "text2text-generation": lambda i: {"source": " ".join(sentence(i)), "target": " ".join(reversed(sentence(i)))},
    "text-generation": lambda i: {"prompt": " ".join(sentence(i)), "completion": sentence(i + 1)[0]},
    "fill-mask": lambda i: {"text": " ".join(sentence(i))},
    "multiple-choice": lambda i: {
        "context": " ".join(sentence(i)),
        "endings": [" ".join(sentence(i + k)) for k in range(3)],
        "label": i % 3,
    },
    "sentence-similarity": lambda i: {
        "anchor": " ".join(sentence(i)),
        "positive": " ".join(sentence(i + 1)),
        "negative": " ".join(sentence(i + 5)),
    },
    "text-ranking": lambda i: {
        "query": sentence(i)[0],
        "passages": [" ".join(sentence(i + k)) for k in range(3)],
        "labels": [int(k == i % 3) for k in range(3)],
    },
}


ASK: dict[str, Any] = {
    "text-classification": "lovely film",
    "token-classification": "a lovely film",
    "question-answering": "what is it?\tlovely food awful film",
    "text2text-generation": "lovely film",
    "text-generation": "lovely film",
    "fill-mask": "lovely <mask> film",
    "multiple-choice": "lovely film\tgreat staff\tdull hotel\trude waiter",
    "sentence-similarity": "lovely film\tgreat staff",
    "text-ranking": "lovely film\tgreat staff",
}


MORE: dict[str, dict[str, Any]] = {
    "text2text-generation": {"max_target_length": 8},
    "text-generation": {"max_new_tokens": 4},
    "question-answering": {"max_seq_length": 32, "doc_stride": 8},
}
