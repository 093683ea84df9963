"""Fine-tune BERT for sentiment with a loop of one's own: what `adapt run --strategy full` replaces.

python examples/hand_written_loop.py train.csv validation.csv BASE
"""

from __future__ import annotations

import csv
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup, logging

EPOCHS, BATCH, RATE = 3, 16, 1e-4


def read(path: str) -> tuple[list[str], list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


logging.set_verbosity_error()
logging.disable_progress_bar()
torch.manual_seed(42)
(train_texts, train_labels), (texts, labels) = read(sys.argv[1]), read(sys.argv[2])
names = sorted(set(train_labels))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[3], num_labels=len(names))
optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
steps = EPOCHS * -(-len(train_texts) // BATCH)
scheduler = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)

for epoch in range(EPOCHS):
    model.train()
    order = torch.randperm(len(train_texts)).tolist()
    total = 0.0
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer([train_texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor([names.index(train_labels[i]) for i in rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        total += loss.item() * len(rows)
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            batch = tokenizer(texts[start : start + 64], padding=True, truncation=True, return_tensors="pt")
            guesses = model(**batch).logits.argmax(-1).tolist()
            right += sum(names[g] == label for g, label in zip(guesses, labels[start : start + 64], strict=True))
    print(f"epoch {epoch + 1}: loss {total / len(order):.3f}, validation accuracy {right / len(texts):.3f}")

model.save_pretrained("hand-written")
tokenizer.save_pretrained("hand-written")
