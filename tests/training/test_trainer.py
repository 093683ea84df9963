"""Step by step, a run here does what transformers' Trainer does with the same settings, rows and first weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from adapterkit import Base, Plan, Registry, run
from adapterkit.testing import tiny
from adapterkit.training import train

SETTINGS = {"num_train_epochs": 12, "learning_rate": 3e-3, "warmup_ratio": 0.25, "weight_decay": 0.1, "seed": 3}


def tagged(path: Path) -> tuple[Path, list[dict[str, Any]], list[str]]:
    words = ["ann", "went", "to", "rome", "with", "bob", "and", "saw", "paris", "again"]
    tags = ["B-PER", "O", "O", "B-LOC", "O", "B-PER", "O", "O", "B-LOC", "O"]
    rows = [{"tokens": words[i % 5 :], "tags": tags[i % 5 :]} for i in range(16)]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path, rows, ["B-LOC", "B-PER", "O"]


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_token_classification_takes_the_steps_of_trainer(tmp_path: Path, accumulate: int) -> None:
    file, rows, labels = tagged(tmp_path / "rows.jsonl")
    folder = checkpoint(tmp_path, "AutoModelForTokenClassification", labels)

    def feature(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
        found = tokenizer(row["tokens"], is_split_into_words=True)
        before, wanted = None, []
        for word in found.word_ids():
            wanted.append(-100 if word is None or word == before else labels.index(row["tags"][word]))
            before = word
        return {**found, "labels": wanted}

    both(tmp_path, folder, file, rows, feature, transformers.DataCollatorForTokenClassification, accumulate)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_text_classification_takes_the_steps_of_trainer(tmp_path: Path, small_csv: Path, accumulate: int) -> None:
    with small_csv.open() as file:
        rows = list(csv.DictReader(file))[:16]
    labels = sorted({row["label"] for row in rows})
    small_csv.write_text("text,label\n" + "\n".join(f"{row['text']},{row['label']}" for row in rows) + "\n")
    folder = checkpoint(tmp_path, "AutoModelForSequenceClassification", labels)

    def feature(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
        return {**tokenizer(row["text"]), "labels": labels.index(row["label"])}

    both(tmp_path, folder, small_csv, rows, feature, transformers.DataCollatorWithPadding, accumulate)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "question-answering"])
def test_lora_on_pairs_takes_the_steps_of_trainer_and_peft(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["ann", "went", "to", "rome", "with", "bob", "and", "saw", "paris", "again"]
    file = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = []
    for i in range(16):
        context = " ".join(words[i % 5 :])
        if task == "question-answering":
            context = " ".join(words)  # of one length: padding is a candidate for transformers' loss, and not for ours
            answer = {"text": [words[i % 10]], "answer_start": [context.index(words[i % 10])]}
            rows.append({"question": "who went?", "context": context, "answers": answer})
        else:
            rows.append({"premise": context, "hypothesis": words[i % 3], "label": "no" if i % 3 else "yes"})
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")

    def feature(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
        if task == "text-classification":
            return {**tokenizer(row["premise"], row["hypothesis"]), "labels": ["no", "yes"].index(row["label"])}
        found = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
        begin = row["answers"]["answer_start"][0]
        end = begin + len(row["answers"]["text"][0])
        inside = [
            i
            for i, (place, part) in enumerate(zip(found["offset_mapping"], found.sequence_ids(), strict=True))
            if part == 1 and place[1] > begin and place[0] < end
        ]
        found.pop("offset_mapping")
        return {**found, "start_positions": inside[0], "end_positions": inside[-1]}

    auto = {"text-classification": "AutoModelForSequenceClassification"}.get(task, "AutoModelForQuestionAnswering")
    folder = checkpoint(tmp_path, auto, ["no", "yes"])
    first: dict[str, torch.Tensor] = {}
    loop = train.loop

    def watched(training: Any, *args: Any, **kwargs: Any) -> Any:
        named = training.run.base.model.named_parameters()
        first.update({name: p.detach().clone() for name, p in named if "lora_" in name})
        return loop(training, *args, **kwargs)

    monkeypatch.setattr(train, "loop", watched)
    both(tmp_path, folder, file, rows, feature, transformers.DataCollatorWithPadding, 1, lora=first, auto=auto)


def checkpoint(tmp_path: Path, auto_class: str, labels: list[str]) -> Path:
    """Save a base with a head, so that both sides begin with the same one; without dropout."""
    torch.manual_seed(0)
    config = tiny.CONFIGS["bert"]()
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config.num_labels = len(labels)
    model = getattr(transformers, auto_class).from_config(config)
    model.save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def both(
    tmp_path: Path,
    folder: Path,
    file: Path,
    rows: list[dict[str, Any]],
    feature: Callable[[dict[str, Any], Any], dict[str, Any]],
    collator: Any,
    accumulate: int,
    *,
    lora: dict[str, torch.Tensor] | None = None,
    auto: str | None = None,
) -> None:
    """Run both sides, an epoch being one step, or its two halves accumulated: the order of rows is no matter."""
    base = Base.load(str(folder))
    size = len(rows) // accumulate
    plan = Plan.resolve(
        {
            **SETTINGS,
            "base": str(folder),
            **({"strategy": "full"} if lora is None else {"strategy": "lora", "target_modules": "query,value"}),
            "head_init": "random",
            "train_file": str(file),
            "validation_file": str(file),
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulate,
            "name": "a",
        }
    )
    ours = [epoch["train_loss"] for epoch in run(plan, Registry(tmp_path / "registry.json"), base=base).history]

    name = auto or ("AutoModelForTokenClassification" if "tokens" in rows[0] else "AutoModelForSequenceClassification")
    model = getattr(transformers, name).from_pretrained(folder)
    if lora is not None:  # PEFT's own model, whose updates begin where ours began
        kind = "QUESTION_ANS" if "question" in rows[0] else "SEQ_CLS"
        model = get_peft_model(model, LoraConfig(task_type=kind, target_modules=["query", "value"], lora_alpha=16))
        own = dict(model.named_parameters())
        with torch.no_grad():
            for path, values in lora.items():
                own[f"base_model.model.bert.{path}"].copy_(values)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            num_train_epochs=SETTINGS["num_train_epochs"],
            learning_rate=SETTINGS["learning_rate"],
            warmup_steps=SETTINGS["warmup_ratio"],
            weight_decay=SETTINGS["weight_decay"],
            seed=SETTINGS["seed"],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulate,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            label_names=["start_positions", "end_positions"] if "question" in rows[0] else ["labels"],
        ),
        train_dataset=[feature(row, base.tokenizer) for row in rows],
        data_collator=collator(base.tokenizer),
    )
    trainer.train()
    # Trainer logs the sum over the batches of a step
    theirs = [entry["loss"] / accumulate for entry in trainer.state.log_history if "loss" in entry]
    assert len(ours) == len(theirs) == SETTINGS["num_train_epochs"]
    assert ours[-1] < ours[0] - 0.01
    # halves of a batch are of other rows here and there, and weigh their words alike only where they have as many
    assert ours == pytest.approx(theirs, rel=5e-3 if accumulate > 1 and "tokens" in rows[0] else 1e-4)
