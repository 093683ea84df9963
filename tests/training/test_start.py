"""The state before training counts as epoch 0, and the course of a training is remarked on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit import Base, Plan, Registry, Report, Watch, run
from adapterkit.metrics import Metrics
from adapterkit.training.advice import Advice, advice_on
from adapterkit.training.loop import is_saved
from adapterkit.training.stages import Outcome, Prepared, Progress
from adapterkit.workflows.progress import epoch_lines
from adapterkit.workflows.run_command import run_command


class Epochs(Watch):
    """The epochs of a run, with their metrics."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        self.rows.append((number, dict(metrics)))


def trained(base: Base, file: Path, registry: Registry, watch: Watch | None = None, **options: Any) -> Report:
    values = {"train_file": str(file), "validation_file": str(file), "name": "reviews", "num_train_epochs": 2}
    return run(Plan.resolve({**values, "head_init": "probe", **options}), registry, base=base, watch=watch)


def updates(report: Report) -> list[Tensor]:
    """Return the values that the adapter adds to the base: of LoRA's matrices, B is zero at the start."""
    head = {f"base_model.model.{name}" for name in report.adapter.manifest["head"]}
    return [t for name, t in report.adapter.tensors.items() if name not in head and "lora_A" not in name]


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_a_run_that_diverges_saves_what_it_began_with(
    strategy: str, tiny_base: Base, small_csv: Path, registry: Registry
) -> None:
    watch = Epochs()
    report = trained(tiny_base, small_csv, registry, watch, strategy=strategy, learning_rate=30.0)
    (zero, start), *later = watch.rows
    assert zero == 0
    assert math.isnan(start["train_loss"])
    assert [number for number, _ in later] == [1, 2]
    assert max(metrics["accuracy"] for _, metrics in later) < start["accuracy"]
    assert report.metrics["validation"]["accuracy"] == start["accuracy"]
    assert not any(map(torch.any, updates(report)))
    (remark,) = (remark for remark in report.remarks if "training diverged" in remark)
    command = f"adapt run --strategy {strategy} --name reviews --train-file {small_csv} --validation-file {small_csv}"
    assert f"the start is saved; try {command}" in remark
    assert "--learning-rate 3" in remark


def test_an_epoch_as_good_as_the_start_is_saved(tiny_base: Base, small_csv: Path, registry: Registry) -> None:
    watch = Epochs()
    report = trained(tiny_base, small_csv, registry, watch, learning_rate=1e-6)
    assert len({metrics["accuracy"] for _, metrics in watch.rows}) == 1
    assert any(map(torch.any, updates(report)))


def test_the_start_is_printed_without_a_loss() -> None:
    lines = epoch_lines(0, 5, {"train_loss": math.nan, "accuracy": 0.5}, header=True)
    assert lines == ["epoch      train_loss  accuracy", "0/5                 -     0.500"]


class OfClasses:
    """A task of two labels, half of the rows each."""

    best, lower_is_better = "accuracy", False

    def strata(self, data: list[str]) -> list[str]:
        return data

    def config(self) -> dict[str, int]:
        return {"num_labels": 2}


def advised(start: float, epochs: list[tuple[float, float]], interval: tuple[float, float]) -> Advice | None:
    """Return the advice on a training with these losses and accuracies."""
    from types import SimpleNamespace

    history = [{"train_loss": loss, "accuracy": accuracy} for loss, accuracy in epochs]
    values = [start, *(accuracy for _, accuracy in epochs)]
    best = max(range(len(values)), key=lambda i: (values[i], -i if values[i] > start else i))
    progress = Progress(losses=[1.0], start={"accuracy": start}, history=history, best_epoch=best)
    options = SimpleNamespace(num_train_epochs=len(epochs))
    rows = {"train": ["a", "b"] * 500, "validation": ["a", "b"] * 50}
    strategy = SimpleNamespace(pair_training=lambda: None)
    run_: Any = SimpleNamespace(task=OfClasses(), strategy=strategy, data=rows, options=options, held_out=True)
    outcome: Any = SimpleNamespace(progress=progress, learning_rate=0.001)
    prepared: Prepared = run_
    result: Outcome = outcome
    return advice_on(prepared, result, Metrics({"accuracy": values[best]}, {"accuracy": interval}, 100))


@pytest.mark.parametrize(
    ("start", "epochs", "interval", "text", "options"),
    [
        (0.5, [(0.69, 0.7), (0.5, 0.8), (0.45, 0.79)], (0.7, 0.9), None, None),
        (0.5, [(0.7, 0.7), (40.0, 0.5)], (0.6, 0.8), "the training diverged", {"learning_rate": 1e-4}),
        (0.9, [(0.7, 0.5), (0.69, 0.5)], (0.8, 0.95), "the training made the model worse", {"learning_rate": 1e-4}),
        (0.9, [(0.3, 0.88), (0.2, 0.89)], (0.8, 0.95), "no epoch was as good as the start", {"learning_rate": 3.3e-4}),
        (
            0.5,
            [(0.7, 0.5), (0.69, 0.53)],
            (0.43, 0.63),
            "accuracy 0.530 on 100 validation rows is not significantly better than 0.500, that of the most frequent "
            "label; the training loss hardly fell",
            {"num_train_epochs": 6, "learning_rate": "auto"},
        ),
        (0.5, [(0.7, 0.5), (0.1, 0.53)], (0.43, 0.63), "more rows are needed", {"strategy": "head-only"}),
        (0.5, [(0.7, 0.6), (0.5, 0.7)], (0.6, 0.8), "accuracy was still improving", {"num_train_epochs": 4}),
        (0.5, [(0.7, 0.7), (0.5, 0.6), (0.3, 0.7)], (0.6, 0.8), None, None),  # no better than the first
    ],
)
def test_the_course_of_a_training_is_remarked_on(
    start: float,
    epochs: list[tuple[float, float]],
    interval: tuple[float, float],
    text: str | None,
    options: dict[str, Any] | None,
) -> None:
    advice = advised(start, epochs, interval)
    assert (advice is None) == (text is None)
    if advice is not None:
        assert text is not None
        assert text in advice.text
        assert advice.options == options


def test_the_command_to_try_has_the_options_of_the_run_and_the_changed_ones() -> None:
    plan = Plan.resolve({"train_file": "a b.csv", "strategy": "lora", "r": 4, "num_train_epochs": 3})
    assert run_command(plan, {"num_train_epochs": 9, "learning_rate": "auto"}) == (
        "adapt run --strategy lora --train-file 'a b.csv' --learning-rate auto --r 4 --num-train-epochs 9"
    )
    assert run_command(plan, {"strategy": "head-only"}) == (
        "adapt run --strategy head-only --train-file 'a b.csv' --num-train-epochs 3"
    )


@pytest.mark.parametrize(
    ("start", "history", "saved", "interval", "lower_is_better", "expected"),
    [
        (0.76, [0.68], 0, (0.48, 0.84), False, True),  # on 25 rows, a standard error of 0.09
        (0.76, [0.66], 0, (0.48, 0.84), False, False),
        (0.55, [0.5], 0, (0.32, 0.68), False, False),  # one answer for every row
        (0.76, [0.68], 0, (0.65, 0.71), False, False),  # on 1,000 rows
        (None, [0.5], 0, (0.3, 0.7), False, True),
        (0.76, [0.7, 0.69], 1, (0.5, 0.88), False, False),  # less than the epoch that is saved
        (0.76, [0.7, 0.7], 1, (0.5, 0.88), False, True),
        (30.0, [30.5], 0, (20.0, 41.0), True, False),  # perplexities
        (30.0, [30.0], 0, (20.0, 41.0), True, True),
    ],
)
def test_the_start_is_saved_where_it_is_better_than_an_epoch_by_a_standard_error(
    start: float | None,
    history: list[float],
    saved: int,
    interval: tuple[float, float],
    lower_is_better: bool,
    expected: bool,
) -> None:
    from types import SimpleNamespace

    best = "perplexity" if lower_is_better else "accuracy"
    of_start = None if start is None else {best: start}
    progress = Progress(start=of_start, history=[{best: value} for value in history], best_epoch=saved)
    task = SimpleNamespace(best=best, lower_is_better=lower_is_better, strata=OfClasses().strata)
    run_ = SimpleNamespace(task=task, data={"validation": ["a", "b"] * 50})
    training: Any = SimpleNamespace(run=run_, progress=progress)
    assert is_saved(training, Metrics({best: history[-1]}, {best: interval}, 100)) == expected
