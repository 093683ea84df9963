"""Does a strategy here reach what transformers' Trainer (with PEFT for LoRA) reaches with the same settings?

Both sides get the same base, rows, epochs, batch size, rate, schedule and seeds, keep the epoch that is best on the
validation rows, and are measured on the same test rows.

    python benchmarks/fidelity.py --data ../shared/data/sentiment --limit 2000 --epochs 2 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from sklearn.metrics import accuracy_score

from adapterkit import Base, Plan, Registry, run
from adapterkit.evaluation import encode

STRATEGIES = {
    "lora": {"strategy": "lora", "learning_rate": 1e-3},
    "layerwise --top 2": {"strategy": "layerwise", "top": 2, "learning_rate": 2e-4},
    "full": {"strategy": "full", "learning_rate": 1e-4},
}


def plan(args: argparse.Namespace, strategy: str, seed: int) -> Plan:
    files = {f"{split}_file": str(find(args.data, split)) for split in ("train", "validation", "test")}
    return Plan.resolve(
        {
            **files,
            **STRATEGIES[strategy],
            "base": args.base,
            "max_train_samples": args.limit,
            "max_eval_samples": args.limit_eval,
            "num_train_epochs": args.epochs,
            "per_device_train_batch_size": args.batch_size,
            "seed": seed,
            "name": "fidelity",
        }
    )


def find(folder: Path, split: str) -> Path:
    return next(p for p in sorted(folder.iterdir()) if p.stem == split)


def ours(plan: Plan, base: Base) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return run(plan, Registry(Path(folder) / "registry.json"), base=base).metrics["test"]["accuracy"]


def trainer(plan: Plan, base: Base) -> float:
    """Do the same with transformers' own model and Trainer, as its text-classification example does."""
    from adapterkit import data

    splits = data.load(plan.data)
    task = plan.task.with_columns(splits["train"].column_names).fit(splits["train"])
    features = {s: encode(task, rows, base.tokenizer, labelled=True) for s, rows in splits.sets.items()}
    transformers.set_seed(plan.training.seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=len(task.labels))
    match plan.strategy_name:
        case "lora":
            from peft import LoraConfig, get_peft_model

            targets = ["query", "value"]
            model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=targets))
        case "layerwise":
            model.base_model.requires_grad_(False)
            for block in model.base_model.encoder.layer[-2:]:
                block.requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:
        loop = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=plan.training.num_train_epochs,
                per_device_train_batch_size=plan.training.per_device_train_batch_size,
                per_device_eval_batch_size=64,
                learning_rate=plan.strategy.learning_rate,
                warmup_steps=plan.training.warmup_ratio,
                lr_scheduler_type=plan.training.lr_scheduler_type,
                weight_decay=plan.training.weight_decay,
                seed=plan.training.seed,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                save_total_limit=1,
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=features["train"],
            eval_dataset=features["validation"],
            processing_class=base.tokenizer,
            data_collator=transformers.DataCollatorWithPadding(base.tokenizer),
            compute_metrics=lambda p: {"accuracy": accuracy_score(p.label_ids, np.argmax(p.predictions, -1))},
        )
        loop.train()
        return float(loop.predict(features["test"]).metrics["test_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with train, validation and test files")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=2000, help="training rows; 0 for all")
    parser.add_argument("--limit-eval", type=int, default=1000, help="validation and test rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    args.limit = args.limit or None
    transformers.logging.set_verbosity_error()
    base = Base.load(args.base)
    rows = []
    for name in args.strategies.split(","):
        found: dict[str, list[float]] = {"ours": [], "Trainer": []}
        for seed in range(args.seeds):
            for side, measure in (("ours", ours), ("Trainer", trainer)):
                began = time.perf_counter()
                found[side].append(measure(plan(args, name, seed), base))
                print(
                    f"# {name} seed {seed} {side}: {found[side][-1]:.4f} in {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
        rows.append({"strategy": name, **found})
    print(
        f"\n{args.data.name}, {args.base}: {args.limit} training rows, {args.epochs} epochs, batch {args.batch_size}, ",
        end="",
    )
    print(f"{args.seeds} seeds, accuracy on {args.limit_eval} test rows, {torch.get_num_threads()} threads\n")
    print("| strategy | adapterkit | Trainer | difference | spread of Trainer |\n|---|---|---|---|---|")
    for row in rows:
        means = {side: statistics.mean(row[side]) for side in ("ours", "Trainer")}
        each = {side: f"{means[side]:.4f} ({min(row[side]):.4f} to {max(row[side]):.4f})" for side in means}
        spread = max(row["Trainer"]) - min(row["Trainer"])
        difference = means["ours"] - means["Trainer"]
        print(f"| {row['strategy']} | {each['ours']} | {each['Trainer']} | {difference:+.4f} | {spread:.4f} |")
    if args.out:
        args.out.write_text(json.dumps({**{k: str(v) for k, v in vars(args).items()}, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
