"""Does a strategy here reach what transformers' Trainer (with PEFT for LoRA) reaches with the same settings?

Both sides get the same base, rows, epochs, batch size, rate, schedule and seeds, keep the epoch that is best on the
validation rows, and are measured on the same test rows. The reference side shares no code with adapterkit but the
reading of files: it tokenises, trains and measures as transformers' own examples do.

    python benchmarks/fidelity.py sentiment --data DATA --limit 2000 --epochs 2
    python benchmarks/fidelity.py multilabel --data DATA --limit 600 --epochs 8
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from adapterkit import Base, Plan, Registry, run
from adapterkit.data import splits as data
from adapterkit.data.splits import LINE


@dataclass
class Problem:
    """A data set, its options and metric, and how the reference trains on it."""

    folder: str
    metric: str
    reference: Callable[..., Any]  # (tokenizer, splits, columns, seed settings) -> what Trainer needs
    options: dict[str, Any] = field(default_factory=dict)


def text_reference(base: Base, splits: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Single or multi label classification as in transformers' run_classification example."""
    from sklearn.metrics import accuracy_score, f1_score

    names = [n for n in splits["train"].column_names if n != LINE]
    label = options.get("label_column_name") or next(n for n in ("label", "labels", "category") if n in names)
    texts = [n for n in ("premise", "hypothesis", "text") if n in names]
    if options.get("text_column_name"):
        texts = [options["text_column_name"]]
    several = isinstance(splits["train"][0][label], list)
    flat = [v for row in splits["train"][label] for v in (row if several else [row])]
    index = {name: i for i, name in enumerate(sorted(set(map(str, flat))))}

    def features(rows: Any) -> Any:
        encoding = base.tokenizer(*[rows[n] for n in texts], truncation=True, max_length=128)
        if several:
            encoding["labels"] = [[float(n in row) for n in index] for row in rows[label]]
        else:
            encoding["labels"] = [index[str(value)] for value in rows[label]]
        return encoding

    def measure(logits: Any, truth: Any) -> float:
        if several:
            return float(f1_score(truth, logits > 0, average="micro", zero_division=0))
        return float(accuracy_score(truth, logits.argmax(-1)))

    config = {"num_labels": len(index)} | ({"problem_type": "multi_label_classification"} if several else {})
    return {
        "model": transformers.AutoModelForSequenceClassification.from_pretrained(base.path, **config),
        "features": {s: d.map(features, batched=True, remove_columns=d.column_names) for s, d in splits.items()},
        "collator": transformers.DataCollatorWithPadding(base.tokenizer),
        "measure": measure,
        "task_type": "SEQ_CLS",
    }


def token_reference(base: Base, splits: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Entities as in transformers' run_ner example, measured by seqeval."""
    from seqeval.metrics import f1_score

    tag = options.get("label_column_name", "tags")
    names = sorted({t for rows in splits.values() for row in rows[tag] for t in row})
    index = {name: i for i, name in enumerate(names)}

    def features(rows: Any) -> Any:
        encoding = base.tokenizer(rows["tokens"], is_split_into_words=True, truncation=True, max_length=128)
        encoding["labels"] = []
        for i, tags in enumerate(rows[tag]):
            before, labels = None, []
            for word in encoding.word_ids(i):
                labels.append(-100 if word is None or word == before else index[tags[word]])
                before = word
            encoding["labels"].append(labels)
        return encoding

    def measure(logits: Any, truth: Any) -> float:
        rows = [([names[t] for t in row if t != -100], row != -100) for row in truth]
        guesses = [[names[i] for i in row[keep]] for row, (_, keep) in zip(logits.argmax(-1), rows, strict=True)]
        return float(f1_score([tags for tags, _ in rows], guesses))

    return {
        "model": transformers.AutoModelForTokenClassification.from_pretrained(base.path, num_labels=len(names)),
        "features": {s: d.map(features, batched=True, remove_columns=d.column_names) for s, d in splits.items()},
        "collator": transformers.DataCollatorForTokenClassification(base.tokenizer),
        "measure": measure,
        "task_type": "TOKEN_CLS",
    }


def answer_reference(base: Base, splits: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Extractive answers as in transformers' run_qa example, measured by torchmetrics' SQuAD."""
    from torchmetrics.functional.text import squad

    windows: dict[str, Any] = {}

    def features(rows: Any) -> Any:
        encoding = base.tokenizer(
            rows["question"],
            rows["context"],
            truncation="only_second",
            max_length=384,
            stride=128,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        rows_of, offsets = encoding.pop("overflow_to_sample_mapping"), encoding["offset_mapping"]
        encoding["row"], encoding["start_positions"], encoding["end_positions"] = rows_of, [], []
        for i, row in enumerate(rows_of):
            inside = [j for j, part in enumerate(encoding.sequence_ids(i)) if part == 1]
            answer, first = rows["answers"][row]["text"][0], rows["answers"][row]["answer_start"][0]
            start = next((j for j in inside if offsets[i][j][0] <= first < offsets[i][j][1]), None)
            end = next((j for j in inside if offsets[i][j][0] < first + len(answer) <= offsets[i][j][1]), None)
            inside_window = start is not None and end is not None
            encoding["start_positions"].append(start if inside_window else 0)
            encoding["end_positions"].append(end if inside_window else 0)
            encoding["offset_mapping"][i] = [o if j in set(inside) else (-1, -1) for j, o in enumerate(offsets[i])]
        return encoding

    def encoded(split: str) -> Any:
        rows = splits[split]
        encoding = rows.map(features, batched=True, batch_size=len(rows), remove_columns=rows.column_names)
        windows[split] = (rows, encoding["row"][:], encoding["offset_mapping"][:])
        return encoding.remove_columns(["row", "offset_mapping"])

    def measure(logits: Any, truth: Any, split: str) -> float:
        rows, rows_of, offsets = windows[split]
        best: dict[int, tuple[float, str]] = {}
        for starts, ends, row, places in zip(*logits, rows_of, offsets, strict=True):
            for i in np.argsort(starts[: len(places)])[-20:]:
                for j in np.argsort(ends[: len(places)])[-20:]:
                    if places[i][0] >= 0 and places[j][0] >= 0 and i <= j < i + 30:
                        text = rows[row]["context"][places[i][0] : places[j][1]]
                        best[row] = max(best.get(row, (-1e9, "")), (float(starts[i] + ends[j]), text))
        answers = [{"prediction_text": best.get(i, (0, ""))[1], "id": str(i)} for i in range(len(rows))]
        wanted = [{"answers": row["answers"], "id": str(i)} for i, row in enumerate(rows)]
        return float(squad(answers, wanted)["f1"])

    return {
        "model": transformers.AutoModelForQuestionAnswering.from_pretrained(base.path),
        "features": {split: encoded(split) for split in splits},
        "collator": transformers.DataCollatorWithPadding(base.tokenizer),
        "measure": measure,
        "task_type": "QUESTION_ANS",
    }


PROBLEMS = {
    "sentiment": Problem("sentiment", "accuracy", text_reference),
    "nli": Problem("nli", "accuracy", text_reference),
    "banking77": Problem("banking77", "accuracy", text_reference),
    "ner": Problem("ner", "f1", token_reference),
    "squad": Problem("squad", "f1", answer_reference),
    "snips-intent": Problem(
        "snips",
        "accuracy",
        text_reference,
        {"task": "text-classification", "text_column_name": "text", "label_column_name": "intent"},
    ),
    "snips-slots": Problem("snips", "f1", token_reference, {"label_column_name": "slots"}),
    "multilabel": Problem("multilabel", "f1_micro", text_reference),
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora", "learning_rate": 2e-3},
    "layerwise": {"strategy": "layerwise", "top": 2, "learning_rate": 2e-4},
    "full": {"strategy": "full", "learning_rate": 1e-4},
}


def plan(args: argparse.Namespace, problem: Problem, strategy: str, seed: int, folder: Path) -> Plan:
    """Make the plan; where a split is missing, both sides get the same one, cut from the training rows."""
    return Plan.resolve(
        {
            **{f"{split}_file": str(next(folder.glob(f"{split}.*"))) for split in ("train", "validation", "test")},
            **problem.options,
            **STRATEGIES[strategy],
            "learning_rate": STRATEGIES[strategy]["learning_rate"] * args.rate_factor,
            "group_by_length": False,  # as Trainer draws rows,
            "head_init": "random",  # and starts its heads
            "base": args.base,
            "num_train_epochs": args.epochs,
            "per_device_train_batch_size": args.batch_size,
            "seed": seed,
            "name": "fidelity",
        }
    )


def prepared(args: argparse.Namespace, problem: Problem, folder: Path) -> None:
    """Write the rows that both sides read: `limit` to train on, `limit_eval` each to validate and to test on."""
    source = args.data / problem.folder
    suffix = next(source.glob("train.*")).suffix
    suffix = ".jsonl" if suffix in (".json", ".conll") else suffix
    train = data.read(str(next(source.glob("train.*")))).shuffle(seed=0)
    others = {split: next(source.glob(f"{split}.*"), None) for split in ("validation", "test")}
    sets = {split: data.read(str(file)).shuffle(seed=0) for split, file in others.items() if file}
    rest = train.select(range(min(args.limit, len(train)), min(args.limit + 2 * args.limit_eval, len(train))))
    sets.setdefault("validation", rest)
    sets.setdefault("test", rest.select(range(len(rest) // 2, len(rest))))
    sets["train"] = train.select(range(min(args.limit, len(train))))
    for split, rows in sets.items():
        chosen = rows if split == "train" else rows.select(range(min(args.limit_eval, len(rows))))
        lines = [json.dumps({k: v for k, v in row.items() if k != LINE}) for row in chosen]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def ours(plan: Plan, problem: Problem, base: Base) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return float(run(plan, Registry(Path(folder) / "registry.json"), base=base).metrics["test"][problem.metric])


def trainer(plan: Plan, problem: Problem, base: Base) -> float:
    """Do the same with transformers' own model and Trainer."""
    splits = data.load(plan.data).sets
    transformers.set_seed(plan.training.seed)
    reference = problem.reference(base, splits, problem.options)
    model = reference["model"]
    match plan.strategy_name:
        case "lora":
            from peft import LoraConfig, get_peft_model

            config = LoraConfig(task_type=reference["task_type"], r=8, lora_alpha=16, target_modules=["query", "value"])
            model = get_peft_model(model, config)
        case "layerwise":
            model.base_model.requires_grad_(False)
            for block in model.base_model.encoder.layer[-2:]:
                block.requires_grad_(True)
    spans = problem.reference is answer_reference

    def measure(outputs: Any, split: str) -> float:
        return reference["measure"](*outputs, split) if spans else reference["measure"](*outputs)

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
                bf16=os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16",
                use_cpu=not torch.cuda.is_available(),
                seed=plan.training.seed,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="best",
                greater_is_better=True,
                save_total_limit=1,
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                label_names=["start_positions", "end_positions"] if spans else ["labels"],
            ),
            train_dataset=reference["features"]["train"],
            eval_dataset=reference["features"]["validation"],
            processing_class=base.tokenizer,
            data_collator=reference["collator"],
            compute_metrics=lambda p: {"best": measure((p.predictions, p.label_ids), "validation")},
        )
        loop.train()
        loop.compute_metrics = None
        outputs = loop.predict(reference["features"]["test"])
        return measure((outputs.predictions, outputs.label_ids), "test")


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return function(*args)


def row(name: str, strategy: str, scores: dict[str, list[float]], metric: str, args: argparse.Namespace) -> str:
    means = {side: statistics.mean(values) for side, values in scores.items()}
    each = {s: f"{means[s]:.4g} ({min(scores[s]):.4g} to {max(scores[s]):.4g})" for s in scores}
    low, high = (f(scores["Trainer"]) for f in (min, max))
    width = max(high - low, max(scores["ours"]) - min(scores["ours"]))
    difference = means["ours"] - means["Trainer"]
    verdict = "yes" if difference >= -width else f"no, by {-difference - width:.4g}"
    cells = [name, f"{args.limit} x {args.epochs}", metric, strategy, each["ours"], each["Trainer"]]
    return f"| {' | '.join(cells)} | {difference:+.4g} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="+", choices=list(PROBLEMS))
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets, one folder each")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=1000, help="training rows")
    parser.add_argument("--limit-eval", type=int, default=500, help="validation rows, and as many test rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate-factor", type=float, default=1.0, help="of the learning rates, on both sides")
    parser.add_argument("--strategies", default="lora,full")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="Accelerate's, on both sides")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    os.environ["ACCELERATE_MIXED_PRECISION"] = args.precision
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = Base.load(args.base)
    results, lines = [], []
    for name in args.problems:
        problem = PROBLEMS[name]
        with tempfile.TemporaryDirectory() as folder:
            prepared(args, problem, Path(folder))
            for strategy in args.strategies.split(","):
                scores: dict[str, list[float]] = {"ours": [], "Trainer": []}
                for seed in range(args.seeds):
                    for side, function in (("ours", ours), ("Trainer", trainer)):
                        began = time.perf_counter()
                        chosen = plan(args, problem, strategy, seed, Path(folder))
                        scores[side].append(quietly(function, chosen, problem, base))
                        spent = time.perf_counter() - began
                        print(
                            f"# {name} {strategy} seed {seed} {side}: {scores[side][-1]:.4f} in {spent:.0f} s",
                            flush=True,
                        )
                results.append({"problem": name, "strategy": strategy, "metric": problem.metric, **scores})
                lines.append(row(name, strategy, scores, problem.metric, args))
                print(lines[-1], flush=True)
        if args.out:
            about = {key: str(value) for key, value in vars(args).items()}
            args.out.write_text(json.dumps({**about, "rows": results}, indent=2) + "\n")
    precision = "fp32" if args.precision == "no" else "bf16 autocast"
    cut = f"cut to {args.limit} training rows and {args.limit_eval} test rows"
    print(
        f"\nBase {args.base}; {cut}; {args.epochs} epochs, batch {args.batch_size}, {args.seeds} seeds, {precision}.\n"
    )
    print("| data | rows x epochs | metric | strategy | adapterkit | Trainer | difference | within the spread |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
