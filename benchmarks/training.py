"""How long training takes, here and with transformers' Trainer (and PEFT), in one interleaved run.

All sides get the same base, rows, epochs, batch sizes, rate, schedule, rank, frozen blocks, seeds and threads, measure
the validation rows after each epoch and keep the best one. Each measurement has a process of its own, which loads the
base, trains once on a few rows (untimed, so that imports and kernels are there), and then is timed: tokenising,
training, validating, keeping. Test rows are measured afterwards. The sides:

- ours: `adapterkit.run` with its defaults, at the precision of --precision; it writes the adapter, too.
- tutorial: Trainer as its tutorials write it: DataCollatorWithPadding, the precision of --precision.
- best: bf16 whatever --precision is, dynamic padding, batches by length, checkpoints without optimizer states.
- defaults: fp32, otherwise as the tutorial; the collator is the one that Trainer takes for a tokenizer.
- full: the tutorial's Trainer, training every parameter.

AdamW is fused on all sides (transformers 5 has it as its default) and holds only what learns. Trainer saves to /dev/shm
where there is one. Seconds, CPU seconds and memory are medians (smallest to largest); a ratio is one of medians; an
accuracy is the mean. Memory is the peak of the process (VmHWM of Linux) above what it held once the base was loaded.

    python benchmarks/training.py --data DATA --out docs/figures/training.json && python benchmarks/figures.py
    python benchmarks/training.py --data DATA --cases lora-3,full-3 --precision no --turns 5
    python benchmarks/training.py --data DATA --options '{"lora-3": {"group_by_length": false}}'
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pages
import torch
import transformers
from peft import LoraConfig, get_peft_model
from training_cases import (
    CASES,
    COLUMNS,
    KEYS,
    MEMORY,
    OTHERS,
    PROBE_DATA,
    PROCESSES,
    READ,
    SCALING,
    Case,
    Figures,
    Side,
    columns_of,
)
from training_report import chart, short, table

from adapterkit import Base, Plan, Registry, Watch, evaluate, run
from adapterkit.base.checkpoint import find_base
from adapterkit.data import splits

Training = Callable[[], Callable[[], float]]  # trains, and returns what then measures the test rows


# One measurement, in a process of its own.


def child(job: dict[str, Any]) -> Figures:
    """Measure one side of a job, after imports and kernels are warmed up by a training on a few rows before."""
    torch.set_num_threads(job["threads"])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    trainings = (ours if job["side"] == "ours" else trainer)(job)
    trainings("warm", "warm", 2)()
    train = trainings("train", "validation", job["values"]["num_train_epochs"])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give back what the warm-up left, so that it is not counted as the base's
    loaded = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        loaded = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    began, used = time.perf_counter(), sum(os.times()[:4])
    accuracy = train()
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - used
    peak = (torch.cuda.max_memory_allocated() if on_gpu else status("VmHWM")) - loaded
    return {"seconds": seconds, "cpu": cpu, "loaded": loaded, "peak": peak, "accuracy": accuracy()}


def status(name: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def planned(
    job: dict[str, Any], train: str, validation: str, epochs: int, **options: Any
) -> tuple[Plan, dict[str, Any]]:
    """Return the plan and its rows. Both sides have their files read before they are timed."""
    files = {"train_file": f"{job['folder']}/{train}.jsonl", "validation_file": f"{job['folder']}/{validation}.jsonl"}
    plan = Plan.resolve({**job["values"], **files, **options, "num_train_epochs": epochs})
    return plan, splits.load(plan.data).sets


def tested(job: dict[str, Any]) -> Any:
    return splits.read(f"{job['folder']}/test.jsonl")


def ours(job: dict[str, Any], watch: Watch | None = None) -> Callable[[str, str, int], Training]:
    """Return what makes a training of so many epochs from the names of its training and validation rows."""
    base = Base.load(job["base"])

    def training(train: str, validation: str, epochs: int) -> Training:
        plan, _ = planned(job, train, validation, epochs, **job["options"])

        def go() -> Callable[[], float]:
            report = run(plan, Registry(Path(job["scratch"]) / train / "registry.json"), base=base, watch=watch)
            return lambda: float(evaluate(base, report.adapter, tested(job)).metrics.values["accuracy"])

        return go

    return training


def trainer(job: dict[str, Any], callbacks: Sequence[Any] = ()) -> Callable[[str, str, int], Training]:
    """Return the same for transformers' own model and Trainer, written as transformers' examples are."""
    path = find_base(job["base"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    def training(train: str, validation: str, epochs: int) -> Training:
        plan, sets = planned(job, train, validation, epochs)
        texts, label = columns_of(sets["train"].column_names, job["values"])
        index = {name: i for i, name in enumerate(sorted(set(map(str, sets["train"][label]))))}
        transformers.set_seed(plan.training.seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(path, num_labels=len(index))
        for p in model.parameters():
            p.sum()  # read it from the mapped file, so that it counts as loaded

        def features(rows: Any) -> Any:
            encoding = tokenizer(*[rows[n] for n in texts], truncation=True, max_length=job["values"]["max_seq_length"])
            return {**encoding, "labels": [index[str(value)] for value in rows[label]]}

        def encoded(rows: Any) -> Any:
            return rows.map(features, batched=True, remove_columns=rows.column_names)

        def go() -> Callable[[], float]:
            features = {split: encoded(rows) for split, rows in sets.items()}
            loop = looped(job, plan, fitted(plan, model), tokenizer, features)
            for callback in callbacks:
                loop.add_callback(callback)
            loop.train()
            return lambda: float(loop.predict(encoded(tested(job))).metrics["test_accuracy"])

        return go

    return training


def fitted(plan: Plan, model: Any) -> Any:
    """Freeze what the strategy freezes, and put PEFT's LoRA in where it is what learns."""
    strategy: Any = plan.strategy
    if plan.strategy_name == "lora":
        targets = list(strategy.target_modules)
        scale = {"r": strategy.r, "lora_alpha": strategy.lora_alpha}
        names = "all-linear" if targets == ["all-linear"] else targets
        return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=names, **scale))
    if plan.strategy_name in ("head-only", "layerwise"):
        model.base_model.requires_grad_(False)
    if plan.strategy_name == "layerwise":
        for block in model.base_model.encoder.layer[-strategy.top :]:
            block.requires_grad_(True)
    return model


def looped(job: dict[str, Any], plan: Plan, model: Any, tokenizer: Any, features: dict[str, Any]) -> Any:
    """Return a Trainer, set up as its column requires."""
    side, options = job["side"], plan.training
    best = side == "best"
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(dir=job["scratch"]),
            num_train_epochs=options.num_train_epochs,
            per_device_train_batch_size=options.per_device_train_batch_size,
            per_device_eval_batch_size=options.per_device_eval_batch_size,
            learning_rate=plan.strategy.learning_rate,
            warmup_steps=options.warmup_ratio,
            lr_scheduler_type=options.lr_scheduler_type,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            seed=options.seed,
            bf16=job.get("best_in_bf16", True) if best else side != "defaults" and job["precision"] == "bf16",
            train_sampling_strategy="group_by_length" if best else "random",
            optim="adamw_torch_fused",
            use_cpu=not torch.cuda.is_available(),
            eval_strategy="epoch" if "validation" in features else "no",
            save_strategy="no" if job["no_best"] else "epoch",
            save_only_model=best,
            save_total_limit=1,
            load_best_model_at_end=not job["no_best"],
            metric_for_best_model="accuracy",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            label_names=["labels"],
        ),
        train_dataset=features["train"],
        eval_dataset=features.get("validation"),
        processing_class=tokenizer,
        data_collator=None if side == "defaults" else transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
    )


# What is measured, and in what order.


def sides_of(args: argparse.Namespace, name: str) -> dict[str, Side]:
    """Return who trains what in a case, in the order of a turn."""
    if name == "memory":
        return {side: ("ours", case, None, 1) for side, (case, _) in MEMORY.items()}
    if name == "processes":
        return {side: ("ours", Case("lora", 3), None, count) for side, count in PROCESSES.items()}
    if name == "scaling":
        each = [(side, case, size) for side, (case, most) in SCALING.items() for size in args.sizes if size <= most]
        return {f"{side} {size}": ("ours", case, size, 1) for side, case, size in each}
    case = CASES[name]
    full = {"full": replace(case, strategy="full", top=None)} if "full" in case.targets else {}
    return {side: (side, full.get(side, case), None, 1) for side in ("ours", *args.columns, *full)}


def job_of(args: argparse.Namespace, name: str, problem: str, what: Side, folder: Path) -> dict[str, Any]:
    """Return what a child is to do, as JSON values; options of ours that are None are left to their defaults."""
    side, case, size, processes = what
    values = {
        **READ.get(problem, {}),
        "task": "text-classification",
        "name": "measured",
        "strategy": case.strategy,
        "num_train_epochs": case.epochs,
        "per_device_train_batch_size": args.batch_size,
        "max_seq_length": args.max_length,
        **({"target_modules": "query,value"} if case.strategy == "lora" else {}),  # as the other sides' LoRA
    }
    extra = [args.options.get(key, {}) for key in ("all", name)]
    options = {"mixed_precision": args.precision, **case.ours, **extra[0], **extra[1]}
    return {
        "side": side,
        "base": args.base,
        "values": values | ({} if case.top is None else {"top": case.top}),
        "options": {key: value for key, value in options.items() if value is not None},
        "precision": args.precision,
        "threads": 1 if name == "processes" else args.threads,
        "processes": processes,
        "no_best": args.no_best,
        "folder": str(rows_of(args, problem, folder, size)),
    }


def rows_of(args: argparse.Namespace, name: str, folder: Path, size: int | None) -> Path:
    """Write the rows of a data set; for `size` training rows, repeat them, numbered so that no two are the same."""
    target = folder / name / str(size or "all")
    if target.exists():
        return target
    target.mkdir(parents=True)
    files = {split: list((args.data / name).glob(f"{split}.*")) for split in splits.SPLITS}
    sets = {split: splits.read(str(paths[0])).shuffle(seed=0) for split, paths in files.items() if paths}
    if "validation" not in sets:
        cut = len(sets["train"]) - args.limit_eval
        sets["validation"] = sets["train"].select(range(cut, cut + args.limit_eval))
        sets["train"] = sets["train"].select(range(cut))
    label = columns_of(sets["train"].column_names, READ.get(name, {}))[1]
    seen: set[Any] = set()  # labels among the training rows; a row of another can't be measured
    for split, rows in sorted(sets.items(), key=lambda item: item[0] != "train"):
        most = args.limit if split == "train" else args.limit_eval
        part = [{k: v for k, v in row.items() if k != splits.LINE} for row in rows.select(range(min(most, len(rows))))]
        seen |= {row[label] for row in part if split == "train"}
        part = [row for row in part if row[label] in seen]
        if split == "train":
            write(target / "warm.jsonl", part[:64])
        if split == "train" and size is not None:
            text = columns_of(rows.column_names, READ.get(name, {}))[0][0]
            part = [{**(row := part[i % len(part)]), text: f"{row[text]} {i}"} for i in range(size)]
        write(target / f"{split}.jsonl", part)
    return target


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def measured(job: dict[str, Any], seed: int, script: str = __file__) -> Any:
    """Run a job in a process of its own, a child of `script`, with caches of its own, so that nothing is met again."""
    shm = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as scratch:
        child_job = {**job, "values": {**job["values"], "seed": seed}, "scratch": scratch}
        env = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
        env |= {"HF_DATASETS_CACHE": f"{scratch}/datasets", "OMP_NUM_THREADS": str(job["threads"])}
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job["processes"])]
        launcher = torchrun if job["processes"] > 1 else []
        command = [sys.executable, *launcher, script, "--child", json.dumps(child_job)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{job['side']} with {job['values']} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def all_measured(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Measure every case, the sides taking turns; a turn has its seed, and none is measured that was before."""
    done = {tuple(row[key] for key in KEYS) for row in figures["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.cases:
            for problem in args.probe_data if name == "probe" else [args.problem]:
                sides = sides_of(args, name).items()
                jobs = {side: job_of(args, name, problem, what, Path(folder)) for side, what in sides}
                for turn in range(args.turns):
                    for side, job in jobs.items():
                        about = {"case": name, "data": problem, "side": side, "turn": turn}
                        if tuple(about[key] for key in KEYS) in done:
                            continue
                        figures["rows"].append({**about, **measured(job, turn % args.seeds)})
                        print(f"# {json.dumps(figures['rows'][-1])}", flush=True)
                    if args.out:  # after each turn, so that what was measured is not lost
                        args.out.write_text(json.dumps(figures, indent=2) + "\n")


def finish(figures: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the tables, and put them and the chart where the arguments name a file."""
    texts = {"training": table(figures), "training-short": short(figures)}
    print("\n", *texts.values(), sep="\n\n")
    if args.chart:
        chart(figures, args.chart)
    for page in args.update:
        pages.update(page, texts)


def names(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, one folder each")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--cases", type=names, default=[*CASES, *OTHERS], help="by default all")
    parser.add_argument("--columns", type=names, default=list(COLUMNS), help="Trainers to compare with; by default all")
    parser.add_argument("--problem", default="sentiment", help="data set of all cases but the probe")
    parser.add_argument("--probe-data", type=names, default=names(PROBE_DATA), help="data sets of the probe")
    parser.add_argument("--limit", type=int, default=2000, help="training rows")
    parser.add_argument("--limit-eval", type=int, default=500, help="validation rows, and as many test rows")
    parser.add_argument("--sizes", type=lambda s: [int(n) for n in names(s)], default=[1000, 10_000, 100_000])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each side")
    parser.add_argument("--seeds", type=int, default=3, help="turns have this many seeds, one after the other")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16", help="of ours and the tutorial")
    parser.add_argument("--no-best", action="store_true", help="Trainer saves nothing and ends with its last epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--options", type=json.loads, default={}, help="JSON: case or all -> options of ours; null for its default"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON; what it holds isn't measured again")
    parser.add_argument("--chart", type=Path, help="draw the ratios as PNG")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="pages to put the tables into")
    parser.add_argument("--again", type=Path, help="make tables and chart of figures that --out wrote")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        with contextlib.redirect_stdout(io.StringIO()):
            measurement = child(args.child)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(measurement))
        return
    if args.again:
        finish(json.loads(args.again.read_text()), args)
        return
    for chosen, choices in ((args.cases, [*CASES, *OTHERS]), (args.columns, COLUMNS)):
        if wrong := [name for name in chosen if name not in choices]:
            parser.error(f"no '{wrong[0]}'; there is {', '.join(choices)}")
    if args.data is None:
        parser.error("--data is needed")
    settings = ("base", "limit", "limit_eval", "max_length", "batch_size", "seeds", "precision", "threads")
    about = {key: getattr(args, key) for key in (*settings, "no_best", "options")}
    about |= {"torch": torch.__version__, "transformers": transformers.__version__}
    figures: dict[str, Any] = {"about": about, "rows": []}
    if args.out and args.out.exists():
        figures = json.loads(args.out.read_text())
        if figures["about"] != about:
            parser.error(f"{args.out} holds measurements with other settings: {figures['about']}")
    all_measured(args, figures)
    finish(figures, args)


if __name__ == "__main__":
    main()
