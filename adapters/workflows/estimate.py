"""Estimate a run from a few real steps: trained parameters, bytes, memory and time. Nothing is written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor

from ..adapter.manifest import FILE_METADATA
from ..base.base import Base
from ..evaluation.outputs import evaluation_batches, outputs
from ..execution.precision import Precision, precision
from ..features.feed import Feed, by_length, chunks
from ..io import tensors
from ..probe import search
from ..settings import TrainingOptions
from ..training.accelerate_setup import accelerator_for
from ..training.fit import fitted
from ..training.inputs import batches_of, feeds_of
from ..training.pairs import pair_model, trains_on_pairs
from ..training.probe_head import fit_probe, fits_probe, initialise_head, starts_from_probe
from ..training.stages import Outcome, Prepared, TaskModel, Training, with_validation
from ..training.steps import Steps, stepping
from ..training.train import adapter_of, build_model
from ..training.trunk_cache import CachedFeed, memory_for_cache
from ..watch import Watch
from .meters import Clock, Memory
from .outlook import Batching, Outlook, Seconds, Tried, TrunkPlan, parts_of
from .plan import Plan
from .run import prepare_run

if TYPE_CHECKING:
    from datasets import Dataset

_SHAPES = 8  # batches of different lengths that are timed
_ROUNDS, _PATIENCE = 3, 3.0  # repetitions of each batch, and the seconds after which fewer are enough
_ROWS = {"train": 512, "validation": 256}  # on which a probe is solved, by split


@dataclass(frozen=True)
class _Measured:
    """Measurements of the first steps of a run."""

    target: TaskModel
    trunk: TrunkPlan
    batches: Batching | None
    seconds: Seconds
    cached: int = 0  # bytes of cached activations, which only a complete run holds


def measure(plan: Plan, *, base: Base | None = None, watch: Watch | None = None) -> Outlook:
    """Estimate a run from its first steps.

    Steps are real: forward, backward and optimizer on batches of the run, at a tenth of its rate. The base is restored
    to the bit. Raises the errors that the run would raise.
    """
    watch = watch or Watch()
    on = prepare_run(plan, base=base, watch=watch)
    plan = on.plan
    mixed = precision(plan.training.mixed_precision)
    watch.note("precision", mixed.why)
    memory = Memory(on.base.nbytes)
    set_seed(plan.training.seed)
    marks = [time.perf_counter()]
    with on.base.locked(), fitted(on.base, plan.strategy) as fit:
        run = Prepared(
            on.base, on.task, plan.strategy, fit, with_validation(on.splits.sets), plan.training, Clock(watch)
        )
        marks.append(time.perf_counter())
        if fits_probe(run):
            measured = _solved(run, mixed)
        else:
            measured = _paired(run, mixed) if trains_on_pairs(run) else _stepped(run, mixed, build_model)
        grown = memory.growth()
        parts = parts_of(dict(zip(measured.target.names, measured.target.parameters, strict=True)))
        count, total = measured.target.sizes()
        adapter = adapter_of(run, measured.target, run.task)
        adapter_bytes = sum(map(len, tensors.chunks(adapter.tensors, FILE_METADATA)))
        marks.append(time.perf_counter())
    around = marks[1] - marks[0] + time.perf_counter() - marks[2]
    return Outlook(
        name=on.name,
        task=on.task.name,
        strategy=plan.strategy_name,
        parts=parts,
        trained_parameters=count,
        model_parameters=total,
        adapter_bytes=adapter_bytes,
        base_bytes=on.base.nbytes,
        precision=mixed.why,
        trunk=measured.trunk,
        batches=measured.batches,
        seconds=replace(measured.seconds, once=measured.seconds.once + around),
        memory=grown + measured.cached,
        on_gpu=memory.on_gpu,
    )


# ---- steps


def _paired(run: Prepared, mixed: Precision) -> _Measured:
    """Time a few steps on batches of the size of those of pairs; the task's loss takes as long as that of pairs."""
    how = run.strategy.pair_training()
    assert how is not None
    options = replace(run.options, num_train_epochs=how.passes, per_device_train_batch_size=how.batch_texts)
    measured = _stepped(replace(run, options=options), mixed, pair_model)
    return replace(measured, seconds=replace(measured.seconds, validation=0.0))  # the head is solved at the end


def _stepped(run: Prepared, mixed: Precision, build: Callable[[Prepared], TaskModel]) -> _Measured:
    """Time a few steps of a run."""
    options = run.options
    began = time.perf_counter()
    target = build(run)
    building = time.perf_counter() - began
    parameters = target.parameters
    copies = [run.fit.starts(parameters), [p.detach().clone() for p in parameters]]  # the first and the best
    slow = replace(run.strategy, learning_rate=run.strategy.learning_rate / 10)  # as while warming up
    run = replace(run, options=_for_trying(options), strategy=slow)
    training = Training.start(run, target)
    accelerator = accelerator_for(run.options, mixed)
    feeds = feeds_of(run, target.model)
    solving_head = (0.0, 0.0)
    if starts_from_probe(run):
        solving_head = _seconds_to_solve(
            _few_rows(run), target.model, feeds, lambda few: initialise_head(few, target.model, mixed)
        )
    batches = list(batches_of(feeds["train"], options, accelerator.num_processes))
    padded = [_padded(feeds["train"], rows) for rows in batches]
    chosen = _spread(padded)
    few, numbers = _few(run, feeds, [batches[k] for k in chosen])
    with stepping(training, accelerator, few) as steps:
        trying = [[numbers[i] for i in batches[k]] for k in chosen]
        laps = _laps(steps, trying)
        validation = final = _seconds_of_outputs(run, target.model, steps.feeds["validation"])
        _learn(
            steps, map(steps.batch, (trying[len(trying) // 2], trying[-1]))
        )  # as an epoch after it, when memory is full
        trunk = _trunk(training, steps, feeds)
    if training.trunk is None or not training.trunk.is_whole_base:
        exact = training.trunk is None and mixed.name == "no"
        final = 0.0 if exact else _seconds_of_outputs(run, target.model, few["validation"])
    del copies
    ran = _clock(run).laps.get("running the trunk", [])
    filling = _seconds_to_run(ran, few, feeds, run.base.model.device) if trunk.cached else 0.0
    tried = {
        k: Tried(len(batches[k]), padded[k] // len(batches[k]), laps[n]) for n, k in enumerate(chosen) if n in laps
    }
    by_size = sorted((padded[k], each.seconds) for k, each in tried.items())
    epoch = float(np.interp(padded, [size for size, _ in by_size], [lap for _, lap in by_size]).sum())
    more = _validation_tokens(run, feeds) / _validation_tokens(run, few)
    tokens, processes = sum(count * longest for count, longest in feeds["train"].shapes), accelerator.num_processes
    return _Measured(
        target,
        trunk,
        Batching(
            steps=len(batches) // processes,
            rows=len(feeds["train"]),
            tokens=tokens,
            padding=1 - tokens / sum(padded),
            tried=list(tried.values()),
        ),
        Seconds(
            once=building + (validation + final) * more + solving_head[1],  # the start is measured, too
            base=solving_head[0] + filling,
            training=epoch / processes,
            validation=validation * more,
            epochs=options.num_train_epochs,
        ),
        trunk.bytes if trunk.in_memory else 0,
    )


def _spread(padded: Sequence[int]) -> list[int]:
    """Return some batches from the shortest to the longest, by number."""
    order = np.argsort(padded, kind="stable")
    return list(dict.fromkeys(int(order[k]) for k in np.linspace(0, len(order) - 1, _SHAPES).round().astype(int)))


def _for_trying(options: TrainingOptions) -> TrainingOptions:
    """Return options for a few steps that decide on the trunk as the complete run would, and write nothing to disk."""
    epochs = max(2, options.num_train_epochs) if options.keep_features else options.num_train_epochs
    options = replace(options, num_train_epochs=epochs, keep_features=False)
    return replace(options, gradient_accumulation_steps=1, lr_scheduler_type="constant")


def _few(
    run: Prepared, feeds: Mapping[str, Feed], batches: Sequence[Sequence[int]]
) -> tuple[dict[str, Feed], dict[int, int]]:
    """Return the rows of some training batches, and of the shortest, middle and longest validation batch.

    Also returns the training rows' numbers among them.
    """
    rows = sorted({i for batch in batches for i in batch})
    held_out = _validation_batches(run, feeds["validation"])
    some = sorted({i for k in (0, len(held_out) // 2, -1) for i in held_out[k]})
    few = {"train": _select(feeds["train"], rows), "validation": _select(feeds["validation"], some)}
    return few, {i: number for number, i in enumerate(rows)}


def _laps(steps: Steps, batches: Sequence[list[int]]) -> dict[int, float]:
    """Return the seconds of a step on each of some batches by number: the median of a few, after a first one.

    Where a step takes long, the first, the middle and the last batch are enough.
    """
    order: list[int] = []

    def loader() -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        began = time.perf_counter()
        for number, rows in enumerate(batches):
            if number in (0, len(batches) // 2, len(batches) - 1) or time.perf_counter() - began < _PATIENCE:
                order.append(number)
                yield steps.batch(rows)
        some, began = tuple(order), time.perf_counter()
        for _ in range(_ROUNDS):
            for number in some:
                order.append(number)
                yield steps.batch(batches[number])
            if time.perf_counter() - began > _PATIENCE:
                return

    laps = list(zip(order, _learn(steps, loader()), strict=True))
    timed = laps[len(set(order)) :]
    return {number: statistics.median(lap for n, lap in timed if n == number) for number in dict.fromkeys(order)}


def _learn(steps: Steps, loader: Iterable[tuple[list[int], dict[str, Tensor]]]) -> list[float]:
    """Train on some batches, and return the seconds of each step."""
    clock, title, optimizer = _clock(steps.training.run), "trying steps", steps.optimizer()
    with clock.bar(title, (1 + _ROUNDS) * _SHAPES) as bar:
        steps.learn(loader, optimizer, steps.schedule(optimizer, 1), bar)
    return clock.laps.pop(title)


def _seconds_of_outputs(run: Prepared, model: Any, feed: Feed) -> float:
    """Return the seconds of the model's outputs for a feed, after a warm-up."""
    for _ in range(2):
        began = time.perf_counter()
        outputs(run.task, model, feed, run.base, batch_size=run.options.per_device_eval_batch_size)
    return time.perf_counter() - began


# ---- the trunk


def _trunk(training: Training, steps: Steps, feeds: Mapping[str, Feed]) -> TrunkPlan:
    """Return whether the hidden states of all rows would be cached, and in how many bytes."""
    if training.trunk is None:
        return TrunkPlan(False, _clock(training.run).notes["trunk"].removeprefix("not cached: "))
    size = 0
    for split, feed in feeds.items():
        few, counts = steps.feeds[split], training.trunk.counts(feed.features)
        assert isinstance(few, CachedFeed)
        for name, states in few.states.items():
            texts = counts.get(name, counts[next(iter(counts))])
            alone = few.level != "all" or name == "pooled"  # one vector a text, or one a token
            size += (len(texts) if alone else sum(texts)) * states.width * states.dtype.itemsize
    return TrunkPlan(True, training.trunk.extent, size, size <= memory_for_cache(training.run.options))


def _seconds_to_run(
    laps: Sequence[float], few: Mapping[str, Feed], feeds: Mapping[str, Feed], device: torch.device
) -> float:
    """Extrapolate the seconds of running the base from those of a few rows, without the first batch, to all tokens."""
    tried, tokens = _passed(few, device), sum(_passed(feeds, device))
    if len(laps) == len(tried) > 1:
        return laps[0] + sum(laps[1:]) / sum(tried[1:]) * max(0, tokens - tried[0])
    return sum(laps) / sum(tried) * tokens


# ---- a head that is solved


def _solved(run: Prepared, mixed: Precision) -> _Measured:
    """Fit a probe on some of the rows, and extrapolate to all of them by their number and their tokens."""
    feeds = feeds_of(run, run.base.model)
    trial = _few_rows(run)
    outcome: Outcome | None = None

    def act(few: Prepared) -> None:
        nonlocal outcome
        outcome = fit_probe(few, mixed, rows=len(run.data["train"]))

    base, solved = _seconds_to_solve(trial, run.base.model, feeds, act)
    assert outcome is not None
    target = outcome.target
    few = feeds_of(trial, target.model)
    more = _validation_tokens(run, feeds) / _validation_tokens(run, few)
    by_token = run.task.probe_unit == "token"
    cached, tried = (search.most_cached(run.base, _units(some, by_token), by_token) for some in (feeds, few))
    return _Measured(
        target,
        TrunkPlan(False, "a probe holds the hidden states in memory while it is solved"),
        None,
        Seconds(0.0, base, solved, _seconds_of_outputs(trial, target.model, few["validation"]) * more, epochs=1),
        cached - tried,
    )


def _few_rows(run: Prepared) -> Prepared:
    """Return a run on a few random rows, with a clock of its own."""
    draw = np.random.default_rng(run.options.seed)
    data = {s: _drawn(rows, _ROWS[s], draw) for s, rows in run.data.items() if s in _ROWS}
    if not run.held_out:
        data["validation"] = data["train"]
    return replace(run, data=data, watch=Clock(_clock(run).watch))


def _seconds_to_solve(
    few: Prepared, model: Any, feeds: Mapping[str, Feed], act: Callable[[Prepared], object]
) -> tuple[float, float]:
    """Return the seconds for running the base over all rows and for fitting a probe, measured by `act` on a few."""
    began = time.perf_counter()
    act(few)
    took = time.perf_counter() - began
    laps, tried = _clock(few).laps["running the base"], feeds_of(few, model)
    share = len(feeds["train"]) / len(tried["train"])
    return _seconds_to_run(laps, tried, feeds, model.device), (took - sum(laps)) * share


def _drawn(rows: Dataset, most: int, draw: np.random.Generator) -> Dataset:
    return rows.select(sorted(draw.permutation(len(rows))[:most].tolist()))


def _units(feeds: Mapping[str, Feed], by_token: bool) -> int:
    """Return how many vectors a probe is solved on: one a text, or one a token."""
    return sum(count * (longest if by_token else 1) for feed in feeds.values() for count, longest in feed.shapes)


# ---- rows and tokens


def _padded(feed: Feed, rows: Sequence[int]) -> int:
    """Return the tokens of a batch, padding included."""
    return len(rows) * max(count * longest for count, longest in (feed.shapes[i] for i in rows))


def _passed(feeds: Mapping[str, Feed], device: torch.device) -> list[int]:
    """Return the tokens, padding included, of each batch in which the frozen base is run over feeds."""
    return [
        _padded(feed, rows) for feed in feeds.values() for rows in chunks(by_length(feed.shapes), feed.shapes, device)
    ]


def _validation_batches(run: Prepared, feed: Feed) -> list[list[int]]:
    size = run.options.per_device_eval_batch_size
    return evaluation_batches(feed, run.base.model.device, size)


def _validation_tokens(run: Prepared, feeds: Mapping[str, Feed]) -> int:
    feed = feeds["validation"]
    return max(1, sum(_padded(feed, rows) for rows in _validation_batches(run, feed)))


def _select(feed: Feed, rows: Sequence[int]) -> Feed:
    return feed.select(rows)


def _clock(run: Prepared) -> Clock:
    assert isinstance(run.watch, Clock)
    return run.watch
