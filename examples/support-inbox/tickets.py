"""Write made-up support tickets: topics and urgency as csv, entities as CoNLL. Replace them by yours.

python tickets.py tasks
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

TOPICS = {
    "billing": ["I was charged twice for order {order}", "The invoice for {product} has the wrong address"],
    "delivery": ["Order {order} has not arrived", "The courier left {product} at the wrong door"],
    "account": ["I can't sign in with {mail}", "Please change my address to {mail}"],
    "defect": ["My {product} makes a strange noise", "The {product} from order {order} is broken"],
}
URGENT = ["and I need it today", ", please call me at once", "and our shop is closed because of it"]
CALM = ["and there is no hurry", ", whenever you have time", ""]
OPENINGS = ["", "Hello,", "Hi team,", "Good morning,"]
PRODUCTS = ["kettle", "heat pump", "coffee mill", "desk lamp", "bike trailer"]


def tickets(count: int, seed: int) -> list[tuple[list[tuple[str, str]], str, str]]:
    """Return tickets as words with tags, each with its topic and urgency."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        topic, urgent = draw.choice(list(TOPICS)), draw.random() < 0.4
        ending = draw.choice(URGENT if urgent else CALM)
        sentence = (
            f"{draw.choice(OPENINGS)} {draw.choice(TOPICS[topic])}{ending if ending[:1] == ',' else ' ' + ending}"
        )
        values = {
            "order": (str(draw.randrange(10_000, 99_999)), "ORDER"),
            "product": (draw.choice(PRODUCTS), "PRODUCT"),
            "mail": (f"{draw.choice(['ana', 'jo', 'lee'])}{draw.randrange(99)}@example.org", "MAIL"),
        }
        words = [pair for word in sentence.split() for pair in tagged(word, values)]
        rows.append((words, topic, "high" if urgent else "normal"))
    return rows


def tagged(word: str, values: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the words of a place in a sentence, each with its tag; a comma is a word of its own."""
    name = word.strip("{},")
    if "{" not in word:
        parts = [word[:-1], ","] if word.endswith(",") and len(word) > 1 else [word]
        return [(part, "O") for part in parts]
    value, kind = values[name]
    return [(part, f"{'B' if i == 0 else 'I'}-{kind}") for i, part in enumerate(value.split())] + [
        (",", "O") for _ in range(word.endswith(","))
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    for seed, (split, count) in enumerate({"train": 200, "validation": 60, "test": 60}.items()):
        rows = tickets(count, seed)
        texts = [" ".join(word for word, _ in words).replace(" ,", ",") for words, _, _ in rows]
        for task, column in (("topic", 1), ("urgency", 2)):
            (folder / task).mkdir(parents=True, exist_ok=True)
            with (folder / task / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    [["text", "label"], *([t, row[column]] for t, row in zip(texts, rows, strict=True))]
                )
        (folder / "entities").mkdir(exist_ok=True)
        blocks = ["\n".join(f"{word} {tag}" for word, tag in words) for words, _, _ in rows]
        (folder / "entities" / f"{split}.conll").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
