"""Which candidates can't be distinguished from the best, and which one to use, with reasons in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..display import size
from ..metrics.bootstrap import interval_of
from ..report.results import Candidate, Difference
from . import setfit
from .baselines import EMBEDDINGS

OF_TRANSFORMERS = (EMBEDDINGS, setfit.NAME)
"""Baselines that need the base, or a trained copy of it."""


def difference(value: float, draws: Sequence[float], best: float, best_draws: Sequence[float]) -> Difference:
    """Return a metric minus the best's, with its 95 % interval over the same resamples of the rows."""
    gap = value - best
    paired = np.asarray(draws, dtype=float) - np.asarray(best_draws, dtype=float)
    if not paired.size or not np.isfinite(paired).all():
        return Difference(gap, None, None, False)
    if not paired.any():  # the same answers
        return Difference(gap, 0.0, 0.0, True)
    low, high = interval_of(gap, paired)
    return Difference(gap, low, high, low <= 0 <= high)


def ranked(candidates: Sequence[Candidate], metric: str, *, lower: bool) -> list[Candidate]:
    """Return candidates by their metric on the validation rows, the best first, and those that failed last."""

    def key(candidate: Candidate) -> tuple[bool, float, float]:
        measured = candidate.metrics.get("validation")
        value = measured.values.get(metric) if measured is not None else None
        if candidate.error or value is None:
            return True, 0.0, 0.0
        return False, value if lower else -value, candidate.costs.bytes or 0.0

    return sorted(candidates, key=key)


def recommended(candidates: Sequence[Candidate]) -> tuple[str, str]:
    """Return the names of the best strategy and of the one to use: the smallest that can't be distinguished from it.

    `candidates` are ranked, and have differences on the validation rows. Both are empty where no strategy was trained.
    """
    strategies = [c for c in candidates if c.kind == "strategy" and not c.error and c.metrics]
    if not strategies:
        return "", ""
    best = strategies[0]
    alike = [c for c in strategies if c is best or ((d := c.differences.get("validation")) is not None and d.same)]
    return best.name, min(alike, key=lambda c: c.costs.bytes or 0.0).name


def sentences(
    candidates: Sequence[Candidate],
    metric: str,
    split: str,
    best: str,
    use: str,
    saved: float,
    *,
    lower: bool,
    trained: str = "",
) -> list[str]:
    """Return the answer of a comparison: what to use and why, the best, baselines, failures, what sharing saved."""
    by_name = {c.name: c for c in candidates}
    failed = [f"{c.name} failed: {c.error}" for c in candidates if c.error]
    if not best:
        return ["No strategy could be trained.", *failed]
    winner, chosen = by_name[best], by_name[use]
    lines = []
    if use == best:
        strategies = [c for c in candidates if c.kind == "strategy" and not c.error and c.name != best]
        alike = [c.name for c in strategies if _alike(c)]
        if alike:
            reason = (
                "it is the best on the validation rows and the smallest of those that can't be distinguished from it"
            )
            reason += f" ({', '.join(alike)})"
        elif strategies:
            reason = "it is the best on the validation rows, and all others are worse by more than chance"
        else:
            reason = "it is the only strategy that was trained"
        lines.append(f"Use {use}: {reason}. {_value(chosen, metric, split)}")
    else:
        lines.append(
            f"Use {use} ({_bytes(chosen)}): on the validation rows it can't be distinguished from the best, {best} "
            f"({_bytes(winner)}), and is the smallest such adapter. {_value(chosen, metric, split)}"
        )
        lines.append(f"Best on the validation rows: {best}. {_value(winner, metric, split)}")
    lines += _on_baselines(candidates, winner, split, lower=lower)
    if split != "validation":
        worse = chosen.differences.get(split)
        if worse is not None and use != best:
            how = "can't be distinguished there either" if worse.same else "differ by more than chance there"
            lines.append(f"On the {split} rows, which chose nothing, {use} and {best} {how}: {_interval(worse)}.")
    if trained:
        lines.append(f"Strategies were trained {trained}: training seconds are those of a shared machine.")
    if saved >= 0.5:
        lines.append(f"Sharing hidden states between strategies saved {saved:.1f} s of training.")
    return [*lines, *failed]


def _alike(candidate: Candidate) -> bool:
    gap = candidate.differences.get("validation")
    return not candidate.error and gap is not None and gap.same


def _on_baselines(candidates: Sequence[Candidate], winner: Candidate, split: str, *, lower: bool) -> list[str]:
    gaps = {c.name: gap for c in candidates if c.kind == "baseline" and (gap := c.differences.get(split)) is not None}
    alike = [name for name, gap in gaps.items() if gap.same or _is_above(gap) != lower]
    if not alike:
        return []

    def named(names: Sequence[str]) -> str:
        return ", ".join(f"{name} ({_interval(gaps[name])})" for name in names)

    of_words = [name for name in alike if name not in OF_TRANSFORMERS]
    others = [name for name in alike if name in OF_TRANSFORMERS]
    same = f"on the {split} rows, no worse than {winner.name} by more than chance"
    lines = [f"No transformer may be needed: {same}: {named(of_words)}."] if of_words else []
    return [*lines, f"Of the other baselines, {same}: {named(others)}."] if others else lines


def _is_above(gap: Difference) -> bool:
    return gap.value is not None and gap.value > 0


def _value(candidate: Candidate, metric: str, split: str) -> str:
    measured = candidate.metrics.get(split) or candidate.metrics["validation"]
    value, interval = measured.values[metric], measured.intervals.get(metric)
    text = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{metric} {value:.3f}{text} ({split if split in candidate.metrics else 'validation'}, {measured.n:,} rows)."


def _interval(gap: Difference) -> str:
    ends = "" if gap.low is None or gap.high is None else f" [{gap.low:+.3f}, {gap.high:+.3f}]"
    return f"{gap.value:+.3f}{ends}"


def _bytes(candidate: Candidate) -> str:
    return size(int(candidate.costs.bytes or 0))


def mean_measured(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean, over seeds, of metrics as JSON values, and of the ends of their intervals."""
    first = several[0]

    def mean(values: Sequence[Any]) -> float | None:
        return float(np.mean(values)) if all(v is not None for v in values) else None

    intervals = {
        name: [mean([m["intervals"][name][end] for m in several]) for end in (0, 1)] for name in first["intervals"]
    }
    names = [name for name in first if name not in ("n", "intervals")]
    return {**{name: mean([m[name] for m in several]) for name in names}, "n": first["n"], "intervals": intervals}


def mean_draws(several: Sequence[Sequence[float]]) -> list[float]:
    """Return, for each resample of the rows, the mean over seeds."""
    return [float(value) for value in np.mean([list(draws) for draws in several], axis=0)] if several[0] else []
