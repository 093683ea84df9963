"""Fine-tune BERT for sentiment with transformers' Trainer and PEFT: what `adapt run --strategy lora` replaces.

python examples/trainer.py train.csv validation.csv BASE
"""

from __future__ import annotations

import sys

import numpy as np
from datasets import disable_progress_bars, load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    logging,
)

disable_progress_bars()
logging.set_verbosity_error()
logging.disable_progress_bar()
rows = load_dataset("csv", data_files={"train": sys.argv[1], "validation": sys.argv[2]})
names = sorted(set(rows["train"]["label"]))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
rows = rows.map(
    lambda batch: {
        **tokenizer(batch["text"], truncation=True, max_length=128),
        "labels": [names.index(label) for label in batch["label"]],
    },
    batched=True,
    remove_columns=["text", "label"],
)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[3], num_labels=len(names))
model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="with-trainer",
        num_train_epochs=3,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        warmup_steps=0.1,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    ),
    train_dataset=rows["train"],
    eval_dataset=rows["validation"],
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
)
trainer.train()
print(f"validation accuracy {trainer.evaluate()['eval_accuracy']:.3f}")
