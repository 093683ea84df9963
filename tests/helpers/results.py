"""Results of a comparison that nobody ran, of any size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from adapterkit.report.results import FORMAT, Answer, Candidate, Costs, Difference, Measured, Results, Row, Tried
from adapterkit.report.tables import calibration, slices

HTML = '<script>document.title = "taken over"</script><img src="http://example.org/x.png"> & "quotes" \'too\''


def without_times(file: Path) -> dict[str, Any]:
    """Return what a results file holds but times, memory, and names of folders."""
    plain: dict[str, Any] = json.loads(file.read_bytes())
    for candidate in plain["candidates"]:
        candidate["costs"] = {k: v for k, v in candidate["costs"].items() if k in ("bytes", "parameters")}
        for trial in candidate.get("trials", ()):
            trial.pop("seconds", None)
        for key in ("registered", "command"):
            candidate[key] = re.sub(r"killed\d+|through|warm", "NAME", candidate.get(key, ""))
    plain["ran"].pop("seconds")
    plain["answer"] = [line for line in plain["answer"] if not line.startswith("Sharing")]
    return plain


def results(*, rows: int = 40, labels: int = 3, candidates: int = 4, measured: int | None = None) -> Results:
    """Return a comparison with rows in which there is HTML."""
    draw = np.random.default_rng(0)
    names = [f"label {i} <b>" for i in range(labels)]
    truth = draw.integers(0, labels, rows)
    every = []
    answers: list[list[Answer]] = []
    for k in range(candidates):
        right = draw.random(rows) < 0.6 + 0.3 * k / candidates
        guess = np.where(right, truth, draw.integers(0, labels, rows))
        sure = draw.uniform(0.4, 1.0, rows)
        some = [
            Answer(names[g], float(s), bool(g == t), {names[g]: float(s)}, [(HTML, 1.0), ("word", -0.5)])
            for g, s, t in zip(guess, sure, truth, strict=True)
        ]
        answers.append(some)
        every.append(_candidate(f"strategy-{k}", k, names, truth, guess, sure, some))
    every.append(Candidate("broken", "strategy", error=f"StrategyError: {HTML}"))
    texts = [
        Row(i + 1, f"{HTML} row {i} " + "word " * 40, names[truth[i]], [*(some[i] for some in answers), None])
        for i in range(rows)
    ]
    return Results(
        format=FORMAT,
        title="Which strategy for <i>rows</i>?",
        answer=["Use strategy-0: a sentence with a reason.", HTML],
        task="text-classification",
        metric="accuracy",
        lower_is_better=False,
        split="test",
        candidates=every,
        rows=texts,
        measured=measured or rows,
        best="strategy-1",
        recommended="strategy-0",
        labels=names,
        ran={"command": f"adapt compare --train-file '{HTML}'", "versions": {"adapterkit": "0"}, "remarks": [HTML]},
    )


def _candidate(
    name: str, k: int, names: list[str], truth: np.ndarray, guess: np.ndarray, sure: np.ndarray, some: list[Answer]
) -> Candidate:
    count, n = len(names), len(truth)
    accuracy = float((truth == guess).mean())
    counts = np.zeros((count, count), int)
    np.add.at(counts, (truth, guess), 1)
    measured = Measured({"accuracy": accuracy, "f1_macro": accuracy}, {"accuracy": (accuracy - 0.1, accuracy + 0.1)}, n)
    per_label = [
        {"label": x, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": int(i)} for i, x in enumerate(names)
    ]
    thresholds = [
        {"threshold": t / 20, "precision": 1.0, "recall": t / 20, "f1": 0.5, "exact": 0.1} for t in range(1, 20)
    ]
    lengths = [{"length": f"{i % 4} words"} for i in range(n)]
    return Candidate(
        name,
        "strategy",
        command=f"adapt run --strategy {name}",
        seeds=[42],
        metrics={"validation": measured, "test": measured},
        differences={"test": Difference(-0.01 * k, -0.05, 0.05, True)},
        costs=Costs(seconds=10.0 * (k + 1), memory=1e8, bytes=10.0 ** (3 + k % 4), parameters=1000, rate=100.0 + k),
        history=[{"train_loss": 1 / e, "accuracy": accuracy * e / 3} for e in (1, 2, 3)],
        trials=[Tried({"r": r, "learning_rate": 1e-3 * r}, "done", accuracy + r / 1000, 1.0) for r in (2, 4, 8)],
        tables={
            "per_label": per_label,
            "confusion": [[int(i), int(j), int(counts[i, j])] for i, j in np.argwhere(counts)],
            "slices": slices(lengths, some),
            "thresholds": thresholds,
            **calibration(sure, truth == guess),
        },
    )
