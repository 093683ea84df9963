"""What the course of a training suggests: whether it diverged, learned nothing, or ended too early, and what to try."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..metrics import Metrics
from ..modules import blocks
from ..probe import few_texts
from .pairs import reason_against
from .stages import Outcome, Prepared, Progress

RISEN = 1.05
"""The factor between the training losses of the first and the last epoch from which a training has diverged."""
SKEWED = 0.75
"""The share of the most frequent label from which weights of the labels are suggested."""
HARDLY = 0.9
"""The factor between these losses down to which a training has hardly begun to learn."""

LEAST_A_LABEL = 4
"""The number of rows a label from which training on pairs of texts is suggested."""
SOLVED = 0.95
"""The metric from which no other strategy is suggested."""


@dataclass(frozen=True)
class Advice:
    """A remark on a training, and the options of a run to try instead, by name; none where no option helps."""

    text: str
    options: dict[str, Any] = field(default_factory=dict)


def advice_on(run: Prepared, outcome: Outcome, validation: Metrics) -> Advice | None:
    """Return the most important remark on a training, whose best epoch has the metrics `validation`."""
    progress, rate = outcome.progress, outcome.learning_rate
    if not progress.losses or not progress.history:  # a probe, which is fitted and not trained
        return _probe_at_chance(run, outcome, validation)
    return (
        _diverged(run, progress, validation, rate)
        or _at_chance(run, progress, validation)
        or _start_is_best(run, progress, rate)
        or _still_improving(run, progress)
        or _few_rows(run, outcome, validation)
    )


def _diverged(run: Prepared, progress: Progress, validation: Metrics, rate: float) -> Advice | None:
    (first, last), name = _losses(progress), run.task.best
    low, high = validation.intervals.get(name, (-math.inf, math.inf))
    fell = progress.best_epoch == 0 and not low <= progress.history[-1][name] <= high  # far below the start
    rose = last > RISEN * first
    if not rose and not fell:
        return None
    losses = f"training loss {first:.3g} in the first epoch and {last:.3g} in the last, " if rose else ""
    saved = "the start" if progress.best_epoch == 0 else f"epoch {progress.best_epoch}"
    return Advice(
        f"the training {'diverged' if rose else 'made the model worse'} at learning_rate={rate:g}: {losses}"
        f"{_values(run, progress)}; {saved} is saved",
        {"learning_rate": _rounded(rate / 10)},
    )


def _at_chance(run: Prepared, progress: Progress, validation: Metrics) -> Advice | None:
    name, chance = run.task.best, chance_of(run)
    low, _ = validation.intervals.get(name, (None, None))
    if chance is None or low is None or low > chance:
        return None
    value, (first, last) = validation.values[name], _losses(progress)
    of = "no better than" if value <= chance else "not significantly better than"
    same = f"{chance:.3f}, that of the most frequent label" if chance else "0"
    rows = "validation" if run.held_out else "training"
    text = f"{name} {value:.3f} on {validation.n:,} {rows} rows is {of} {same}"
    if skewed := _weights(run, chance, text):
        return skewed
    if last > HARDLY * first:
        epochs = 3 * run.options.num_train_epochs
        text += f"; the training loss hardly fell, from {first:.3g} to {last:.3g}"
        return Advice(text, {"num_train_epochs": epochs, "learning_rate": "auto"})
    text += f", though the training loss fell from {first:.3g} to {last:.3g}: more rows are needed"
    return Advice(f"{text}, or another strategy", {"strategy": "head-only"})


def _probe_at_chance(run: Prepared, outcome: Outcome, validation: Metrics) -> Advice | None:
    """Return a remark on a probe whose measured answers are no better than one label for every row."""
    name, chance = run.task.best, chance_of(run)
    if chance is None or outcome.split == "train" or validation.intervals.get(name, (math.inf,))[0] > chance:
        return None
    rows = "validation" if run.held_out else "training"
    text = f"{name} {validation.values[name]:.3f} on {validation.n:,} {rows} rows is not significantly better than "
    text += f"{chance:.3f}, that of one answer for every row"
    if skewed := _weights(run, chance, text):
        return skewed
    is_table = not blocks(run.base.model)  # of word vectors, which full trains
    if not is_table and few_texts.few_a_label(run.task, len(run.data["train"])):
        return Advice(f"{text}: more rows are needed")
    strategy = "full" if is_table else "lora"
    return Advice(f"{text}: more rows are needed, or another strategy", {"strategy": strategy})


def _weights(run: Prepared, chance: float, text: str) -> Advice | None:
    """Return `text` with the advice to weigh the labels, where nearly all rows have one and they aren't weighed."""
    if chance < SKEWED or getattr(run.task, "class_weight", None) != "none":
        return None
    return Advice(f"{text}: more rows of the rare labels are needed, or weights", {"class_weight": "balanced"})


def _start_is_best(run: Prepared, progress: Progress, rate: float) -> Advice | None:
    if progress.best_epoch or progress.start is None:
        return None
    text = f"no epoch was as good as the start, which is saved: {_values(run, progress)}"
    return Advice(text, {"learning_rate": _rounded(rate / 3)})


def _still_improving(run: Prepared, progress: Progress) -> Advice | None:
    name, epochs = run.task.best, len(progress.history)
    if progress.best_epoch < epochs or epochs < 2:
        return None
    *earlier, before, last = progress.history
    values = [epoch[name] for epoch in (*earlier, before)]
    best = min(values) if run.task.lower_is_better else max(values)
    gain = (best - last[name]) if run.task.lower_is_better else (last[name] - best)
    if gain < 0.02 * abs(best) or last["train_loss"] > HARDLY * before["train_loss"]:
        return None
    text = f"{name} was still improving in the last epoch, from {best:.3f} to {last[name]:.3f}"
    return Advice(text, {"num_train_epochs": 2 * epochs})


def _few_rows(run: Prepared, outcome: Outcome, validation: Metrics) -> Advice | None:
    """Return that pairs of texts may teach more where rows of a label are few, on a base of sentence vectors.

    docs/explanation/strategies-compared.md has few-shot beside what trains by the task's loss, and beside head-only,
    which does as well on some data.
    """
    texts, labels = len(run.data["train"]), max(2, int(run.task.config().get("num_labels", 2)))
    if run.strategy.pair_training() is not None or not LEAST_A_LABEL <= texts / labels <= few_texts.FEW_A_LABEL:
        return None
    solved = outcome.split != "train" and validation.values[run.task.best] >= SOLVED
    if solved or run.base.sentence_pooling is None or reason_against(run):
        return None
    text = f"{texts:,} rows of {labels} labels: of so few, few-shot often learns more"
    return Advice(text, {"strategy": "few-shot"})


def chance_of(run: Prepared) -> float | None:
    """Return the value of the task's metric for one and the same answer to every row; None where that isn't defined."""
    name, data = run.task.best, run.data["validation"]
    if name.startswith("f1"):
        return 0.0
    strata = run.task.strata(data) if name == "accuracy" else None
    return max(Counter(strata).values()) / len(strata) if strata else None


def _losses(progress: Progress) -> tuple[float, float]:
    """Return the mean training loss of the first and of the last epoch."""
    return progress.history[0]["train_loss"], progress.history[-1]["train_loss"]


def _values(run: Prepared, progress: Progress) -> str:
    name, last = run.task.best, progress.history[-1]
    after = f"{last[name]:.3f} after epoch {len(progress.history)}"
    return f"{name} {after}" if progress.start is None else f"{name} {progress.start[name]:.3f} before it, {after}"


def _rounded(rate: float) -> float:
    """Return a rate with two significant digits."""
    return float(f"{rate:.2g}")
