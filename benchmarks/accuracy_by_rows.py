"""Accuracy against the number of training rows: adapterkit's strategies at their defaults, and what people take else.

All methods read the same rows of the training file, drawn by seed, the same number of each label (of sentences with
tags: at random), and are measured on the same rows of the test file; the data set's validation file is not read, so
that a method that needs validation rows takes them of its training rows. Adapterkit's strategies have no option set but
the seed. The others:

- sentence-transformers: LogisticRegression on its `encode`, normalised mean pooling, as the model's card has it.
- TF-IDF: LogisticRegression on words and pairs of words.
- SetFit: the paper's 20 pairs of each kind a row, batches of 16, one epoch, up to --setfit-most rows.
- AdapterHub: bottleneck adapters (seq_bn) of its package with AdapterTrainer, at ten times the rate of its quick tour,
  the best of 1, 3 and 10 times on 250 other rows of sentiment; epochs as Trainer.
- Trainer, full and LoRA: transformers' Trainer (and PEFT) at its best, as in training.py, at the rates, batches and
  epochs that adapterkit has as defaults; from 200 rows on a tenth of the rows chooses the epoch.

Each side has a process of its own, SetFit and sentence-transformers in environments of their own, and each runs one
job after another. CPU seconds count from rows to a trained model, validation included, and not imports or loading.
What --out holds already isn't measured again.

    python benchmarks/accuracy_by_rows.py --data DATA --sentence-transformers A/bin/python --setfit B/bin/python \\
        --rows 16,64 --draws 3 --out docs/figures/accuracy_by_rows.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import few_rows
import few_shot

STRATEGIES = (
    *("head-only", "few-shot", "lora", "layerwise", "full"),
    *("bitfit", "ia3", "bottleneck", "prefix", "peft"),
)
RIVALS = {  # by name: the side that runs it
    "sentence-transformers": "sentence-transformers",
    "TF-IDF": "sentence-transformers",
    "SetFit": "setfit",
    "AdapterHub, bottleneck": "adapterhub",
    "Trainer, full": "trainer",
    "Trainer, LoRA": "trainer",
}
SIDES = dict.fromkeys(STRATEGIES, "adapterkit") | RIVALS
TAGS = {"ner": ("ner/train.conll", "ner/test.conll", "tokens", "tags")}


# ---- a side, in a process of its own


def by_adapterkit(folder: str) -> Any:
    import adapterkit as ak

    base = ak.Base.load(folder)

    def run(job: dict[str, Any]) -> dict[str, Any]:
        seconds, value, report = few_rows.trained(base, job.get("method", "head-only"), job)
        sizes = {"trained_parameters": report.trained_parameters, "adapter_bytes": report.adapter_bytes}
        return {"metric": report.adapter.task.best, "value": value, "seconds": round(seconds, 2), **sizes}

    return run


def measured(seconds: float, value: float) -> dict[str, Any]:
    """Return the figures of a method of others."""
    return {"metric": "accuracy", "value": float(value), "seconds": round(seconds, 2)}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder for checkpoints, in memory where there is a place for it."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def encoded(tokenizer: Any, rows: list[list[str]], names: list[str]) -> dict[str, Any]:
    """Return the columns that a Trainer reads; rows of labels that aren't among `names` are left out."""
    rows = [row for row in rows if row[-1] in names]
    texts = map(list, zip(*(row[:-1] for row in rows), strict=True))
    return {**tokenizer(*texts, truncation=True, max_length=128), "labels": [names.index(row[-1]) for row in rows]}


def cut_and_epochs(rows: int) -> tuple[int, int]:
    """Return how many rows of those of training validate, and how many epochs there are, as adapterkit has them."""
    cut = rows // 10 if rows >= 200 else 0
    return cut, max(5, min(30, math.ceil(100 / math.ceil((rows - cut) / 16))))


def by_adapterhub(folder: str) -> Any:
    import numpy as np
    import transformers

    from adapters import AdapterTrainer, AutoAdapterModel  # noqa: TID251 (the package of that name)

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def run(job: dict[str, Any]) -> dict[str, Any]:
        seed, rows = job.get("seed", 0), job["train"]
        names = sorted({row[-1] for row in rows})
        cut, epochs = cut_and_epochs(len(rows))
        transformers.set_seed(seed)
        model = AutoAdapterModel.from_pretrained(folder)
        model.add_adapter("a", config="seq_bn")
        model.add_classification_head("a", num_labels=len(names))
        model.train_adapter("a")

        def features(rows: list[list[str]]) -> Any:
            columns = encoded(tokenizer, rows, names)
            return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

        with scratch() as folder_of_run:
            options: dict[str, Any] = {  # by the names of its own transformers, which is an older one
                "output_dir": folder_of_run,
                "num_train_epochs": epochs,
                "per_device_train_batch_size": 16,
                "per_device_eval_batch_size": 64,
                "learning_rate": job.get("rate", 1e-3),
                "warmup_ratio": 0.1,
                "group_by_length": True,
                "seed": seed,
                "use_cpu": True,
                "eval_strategy": "epoch" if cut else "no",
                "save_strategy": "epoch" if cut else "no",
                "save_only_model": True,
                "save_total_limit": 1,
                "load_best_model_at_end": bool(cut),
                "metric_for_best_model": "accuracy",
                "report_to": "none",
                "disable_tqdm": True,
            }
            began = few_rows.cpu_seconds()
            loop = AdapterTrainer(
                model=model,
                args=transformers.TrainingArguments(**options),
                train_dataset=features(rows[cut:]),
                eval_dataset=features(rows[:cut]) if cut else None,
                processing_class=tokenizer,
                data_collator=transformers.DataCollatorWithPadding(tokenizer),
                compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
            )
            loop.train()
            seconds = few_rows.cpu_seconds() - began
            value = loop.predict(features(job["test"])).metrics["test_accuracy"]
        return measured(seconds, value)

    return run


def by_trainer(folder: str) -> Any:
    import training
    import transformers
    from datasets import Dataset

    import adapterkit as ak

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def run(job: dict[str, Any]) -> dict[str, Any]:
        strategy = job.get("method", "Trainer, full").rpartition(" ")[2].lower()
        seed, rows = job.get("seed", 0), job["train"]
        names = sorted({row[-1] for row in rows})
        cut, epochs = cut_and_epochs(len(rows))
        values = {"strategy": strategy, "task": "text-classification", "train_file": "-", "seed": seed}
        plan = ak.Plan.resolve({**values, "num_train_epochs": epochs})
        transformers.set_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))

        def features(rows: list[list[str]]) -> Any:
            return Dataset.from_dict(encoded(tokenizer, rows, names))

        with scratch() as folder_of_run:
            side = {"side": "best", "best_in_bf16": False, "precision": "no", "no_best": not cut}
            side["scratch"] = folder_of_run
            began = few_rows.cpu_seconds()
            sets = {"train": features(rows[cut:]), **({"validation": features(rows[:cut])} if cut else {})}
            loop = training.looped(side, plan, training.fitted(plan, model), tokenizer, sets)
            loop.train()
            seconds = few_rows.cpu_seconds() - began
            value = loop.predict(features(job["test"])).metrics["test_accuracy"]
        return measured(seconds, value)

    return run


def by_sentence_transformers(folder: str) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    by_encoder = few_rows.by_rival(folder)

    def run(job: dict[str, Any]) -> dict[str, Any]:
        if job.get("method") != "TF-IDF":
            seconds, value = by_encoder(job)
        else:
            texts = {s: [" ".join(row[:-1]) for row in job[s]] for s in ("train", "test")}
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
            began = few_rows.cpu_seconds()
            model.fit(texts["train"], [row[-1] for row in job["train"]])
            seconds = few_rows.cpu_seconds() - began
            value = model.score(texts["test"], [row[-1] for row in job["test"]])
        return measured(seconds, value)

    return run


def by_setfit(folder: str) -> Any:
    run = few_shot.by_setfit(folder)

    return lambda job: measured(*run(job))


CHILDREN = {
    "adapterkit": by_adapterkit,
    "trainer": by_trainer,
    "sentence-transformers": by_sentence_transformers,
    "setfit": by_setfit,
    "adapterhub": by_adapterhub,
}


# ---- all of them


def rows_of(data: Path, case: str) -> dict[str, Any]:
    """Return training and test rows of a data set, each a list of its columns' values, and the columns' names."""
    if case in TAGS:
        from adapterkit.data import splits

        train, test, *columns = TAGS[case]
        read = [[[row[name] for name in columns] for row in splits.read(str(data / file))] for file in (train, test)]
        return {"train": read[0], "test": read[1], "columns": columns}
    train, test, texts, label = few_rows.SETS[case]
    files = [few_rows.read(data, file, texts, label) for file in (train, test)]
    return {"train": files[0], "test": files[1], "columns": [*texts, "label"]}


def job_of(rows: dict[str, Any], case: str, count: int, seed: int, limit: int) -> dict[str, Any] | None:
    """Return the training rows of a draw and the test rows; none where there aren't two rows of each label."""
    train, test = rows["train"], rows["test"]
    test = random.Random(0).sample(test, min(limit, len(test)))
    if case in TAGS:
        drawn = random.Random(seed).sample(train, min(count, len(train)))
    else:
        each = round(count / len({row[-1] for row in train}))
        if each < 2:
            return None
        drawn = few_rows.drawn(train, each, seed)
    return {"train": drawn, "test": test, "columns": rows["columns"], "seed": seed}


def jobs(args: argparse.Namespace) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """Yield each data set, number of rows and method, and what it is to do: the methods in turn, draw by draw."""
    data = {case: rows_of(args.data, case) for case in args.sets}
    for count, seed, case in itertools.product(map(int, args.rows.split(",")), range(args.draws), data):
        job = job_of(data[case], case, count, seed, args.limit)
        of_texts = case not in TAGS
        for method in args.methods if job is not None else ():
            too_many = method == "SetFit" and count > args.setfit_most
            if job is not None and not too_many and (of_texts or (method in STRATEGIES and method != "few-shot")):
                yield case, count, method, job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, one folder each")
    parser.add_argument("--sentence-transformers", type=Path, help="the Python of an environment with it")
    parser.add_argument("--setfit", type=Path, help="the Python of an environment with it")
    parser.add_argument("--adapterhub", type=Path, help="the Python of an environment with adapters")
    parser.add_argument("--base", help="the folder of the model for all sides [default: that of minilm]")
    parser.add_argument("--sets", default=",".join([*few_rows.SETS, *TAGS]))
    parser.add_argument("--rows", default="8,16,64,250,1000,4000", help="training rows, of all labels together")
    parser.add_argument("--methods", help="separated by semicolons [default: all]")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--setfit-most", type=int, default=64, help="rows up to which SetFit is run")
    parser.add_argument("--limit", type=int, default=1000, help="test rows at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON of the figures, continued where it exists")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        few_rows.answer_jobs(CHILDREN[args.child](args.folder))
        return
    import pages

    import adapterkit as ak

    if args.data is None or args.out is None:
        parser.error("--data and --out are needed")
    pythons = {
        "sentence-transformers": args.sentence_transformers,
        "setfit": args.setfit,
        "adapterhub": args.adapterhub,
    }
    args.methods = args.methods.split(";") if args.methods else [*SIDES]
    args.sets = args.sets.split(",")
    for chosen, choices in ((args.methods, SIDES), (args.sets, [*few_rows.SETS, *TAGS])):
        if wrong := [name for name in chosen if name not in choices]:
            parser.error(f"no '{wrong[0]}'; there is {', '.join(choices)}")
    for name in [name for name in args.methods if pythons.get(SIDES[name], True) is None]:
        print(f"# {name} is left out: no --{SIDES[name]}")
        args.methods.remove(name)
    args.base = args.base or str(ak.Base.load("minilm").path)
    figures = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {(row["case"], row["rows"], row["method"], row["seed"]) for row in figures}
    running: dict[str, few_rows.Side] = {}
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "job.json"
        for case, count, method, job in jobs(args):
            if (case, count, method, job["seed"]) in done:
                continue
            side = SIDES[method]
            if side not in running:
                python = str(pythons.get(side, sys.executable))
                running[side] = few_rows.Side(side, python, args.base, args.threads, __file__)
            file.write_text(json.dumps({**job, "method": method}))
            row = {"case": case, "rows": count, "method": method, "seed": job["seed"]}
            row |= {"drawn": len(job["train"]), "tests": len(job["test"]), **running[side].run(file)}
            figures.append({**row, "cpu": pages.cpu_name()})
            lines = ",\n".join(map(json.dumps, figures))
            args.out.write_text(f"[\n{lines}\n]\n")
            print("#", case, count, method, job["seed"], round(row["value"], 4), row["seconds"], flush=True)


if __name__ == "__main__":
    main()
