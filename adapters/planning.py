"""What a run would do, told by a few real steps of it: what learns, bytes, memory and time. Nothing is written."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from accelerate.utils import set_seed
from torch import Tensor

from . import solving
from .adapter import TENSORS
from .base import Base
from .evaluation import outputs
from .feed import Feed, chunks
from .fitting import fitted
from .precision import Precision, precision
from .probe import BY_TOKEN, POOLINGS
from .settings import TrainingOptions
from .training import Run, Steps, accelerated, adapter_of, batches_of, encoded, make_model, probes, solve, stepping
from .trunk import Kept, Trunk, room_for
from .watch import Watch
from .workflow import Plan, ready

_ROUNDS, _PATIENCE = 3, 3.0  # how often a batch is timed, and the seconds after which once is enough
_ROWS = {"train": 512, "validation": 256}  # of a split that a probe is tried on


@dataclass(frozen=True)
class Part:
    """Parameters that learn: one tensor, or those of the same name and shape in several blocks."""

    name: str  # in the task's model; `layer.0-5` for blocks 0 to 5
    shape: tuple[int, ...]
    tensors: int

    @property
    def parameters(self) -> int:
        """How many numbers that is."""
        return self.tensors * int(np.prod(self.shape))


@dataclass(frozen=True)
class Kind:
    """One of the batches of an epoch that were tried: its rows, the tokens of its longest, and seconds for a step."""

    rows: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Batching:
    """What an epoch consists of."""

    steps: int
    rows: int  # features: windows, where long texts become several
    tokens: int
    padding: float  # share of padding among the tokens of padded batches
    tried: dict[str, Kind]


@dataclass(frozen=True)
class TrunkPlan:
    """Whether the trunk would be kept, how much of the base it is, and what that takes; or why not."""

    kept: bool
    what: str  # which blocks, or the reason
    bytes: int = 0
    in_memory: bool = True


@dataclass(frozen=True)
class Seconds:
    """How long the parts of a run would take."""

    start: float  # before and after learning: fitting the strategy, checking the base and the adapter
    trunk: float  # running the trunk once
    training: float  # an epoch's steps; for a probe, solving it
    validation: float  # after each epoch
    epochs: int

    @property
    def epoch(self) -> float:
        """An epoch's steps, and validation after them."""
        return self.training + self.validation

    @property
    def total(self) -> float:
        """All of it, unless it stops early."""
        return self.start + self.trunk + self.epochs * self.epoch


@dataclass(frozen=True)
class Outlook:
    """What a run would do."""

    name: str
    task: str
    strategy: str
    parts: list[Part]
    trained_parameters: int
    model_parameters: int
    adapter_bytes: int
    base_bytes: int
    precision: str
    trunk: TrunkPlan
    batches: Batching | None  # None for a probe, which is solved and not trained in steps
    seconds: Seconds
    memory: int  # bytes above the loaded base at the worst moment
    on: str  # where that memory is: CPU, or GPU

    def plain(self) -> dict[str, Any]:
        """Return the outlook as JSON values."""
        found = asdict(self)
        found["parts"] = [{**asdict(p), "shape": list(p.shape), "parameters": p.parameters} for p in self.parts]
        found["seconds"] |= {"epoch": self.seconds.epoch, "total": self.seconds.total}
        return found


def outlook(plan: Plan, *, base: Base | None = None, watch: Watch | None = None) -> Outlook:
    """Carry out the beginning of a plan and tell from it what the whole would be.

    Steps are real: forward, backward and optimizer on batches of the run, at a tenth of its rate. The base is bit for
    bit itself afterwards. Raises what the run would raise.
    """
    watch = watch or Watch()
    on = ready(plan, base=base, watch=watch)
    mixed = precision(plan.training.mixed_precision)
    watch.note("precision", mixed.why)
    memory = _Memory(on.base)
    set_seed(plan.training.seed)
    clock = _Clock(watch)
    began = time.perf_counter()
    with on.base.held(), fitted(on.base, plan.strategy) as fit:
        run = Run(on.base, on.task, plan.strategy, fit, on.splits.sets, plan.training, clock)
        clock.start = time.perf_counter() - began
        trial = (_solved if probes(run) else _stepped)(run, mixed, memory)
        parts = _parts({name: p for name, p in run.model.named_parameters() if id(p) in set(map(id, run.trainable))})
        count, total = (sum(p.numel() for p in ps) for ps in (run.trainable, run.model.parameters()))
        adapter_bytes = len(adapter_of(run, run.task).files()[TENSORS])
        ended = time.perf_counter()
    start = clock.start + time.perf_counter() - ended
    seconds = replace(trial.seconds, start=trial.seconds.start + start)
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
        trunk=trial.trunk,
        batches=trial.batches,
        seconds=seconds,
        memory=trial.memory,
        on="GPU" if memory.on_gpu else "CPU",
    )


@dataclass(frozen=True)
class _Trial:
    """What was measured of a run."""

    trunk: TrunkPlan
    batches: Batching | None
    seconds: Seconds
    memory: int


# ---- steps


def _stepped(run: Run, mixed: Precision, memory: _Memory) -> _Trial:
    """Make a few steps of a run, and measure them."""
    clock, options = _clock(run), run.options
    began = time.perf_counter()
    make_model(run)
    made = time.perf_counter() - began
    copies = [[p.detach().clone() for p in run.trainable] for _ in range(2)]  # as a run keeps the first and the best
    run.options = _for_trying(options)
    run.strategy = replace(run.strategy, learning_rate=run.strategy.learning_rate / 10)  # as while warming up
    accelerator = accelerated(run.options, mixed)
    whole = encoded(run)
    lists = list(batches_of(whole["train"], options, accelerator.num_processes))
    padded = [_padded(whole["train"], rows) for rows in lists]
    order = np.argsort(padded, kind="stable")
    chosen = {"longest": order[-1], "median": order[len(order) // 2], "shortest": order[0]}
    held_out = _held_out(whole["validation"], options.per_device_eval_batch_size)
    few = {
        "train": _some(whole["train"], sorted({i for k in chosen.values() for i in lists[k]})),
        "validation": _some(whole["validation"], sorted(i for rows in held_out for i in rows)),
    }
    with stepping(run, accelerator, few) as steps:
        numbers = {i: new for new, i in enumerate(sorted({i for k in chosen.values() for i in lists[k]}))}
        kinds = {name: [numbers[i] for i in lists[k]] for name, k in chosen.items()}
        laps = _laps(steps, list(kinds.values()))
        validation = _validated(run, steps.feeds["validation"])
        trunk = _trunk(run, steps, whole)
    final = 0.0 if run.trunk is None and mixed.name == "no" else _validated(run, few["validation"])
    del copies
    tried = {
        name: Kind(len(lists[k]), padded[k] // len(lists[k]), lap)
        for (name, k), lap in zip(chosen.items(), laps, strict=True)
    }
    sizes, each = zip(*sorted(zip((padded[k] for k in chosen.values()), laps, strict=True)), strict=True)
    share = _tokens_padded(whole["validation"], options) / max(1, _tokens_padded(few["validation"], options))
    tokens = sum(count * longest for count, longest in whole["train"].shapes)
    return _Trial(
        trunk,
        Batching(len(lists) // accelerator.num_processes, len(whole["train"]), tokens, 1 - tokens / sum(padded), tried),
        Seconds(
            start=made + final * share,
            trunk=_filling(clock, few, whole) if trunk.kept else 0.0,
            training=float(np.interp(padded, sizes, each).sum()) / accelerator.num_processes,
            validation=validation * share,
            epochs=options.num_train_epochs,
        ),
        memory.growth() + (trunk.bytes if trunk.in_memory else 0),
    )


def _for_trying(options: TrainingOptions) -> TrainingOptions:
    """Return options for a few steps that decide on the trunk as the whole run would, and keep nothing on disk."""
    epochs = max(2, options.num_train_epochs) if options.keep_features else options.num_train_epochs
    return replace(
        options,
        keep_features=False,
        num_train_epochs=epochs,
        gradient_accumulation_steps=1,
        lr_scheduler_type="constant",
    )


def _laps(steps: Steps, kinds: Sequence[list[int]]) -> list[float]:
    """Return the seconds of a step on each of some batches: the median, once the first of all was made."""
    clock, feed, device = _clock(steps.run), steps.feeds["train"], steps.model.device

    def batches() -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        began = time.perf_counter()
        for i in range(_ROUNDS * len(kinds) + 1):
            if i > len(kinds) and i % len(kinds) == 1 and time.perf_counter() - began > _PATIENCE:
                return
            rows = kinds[max(0, i - 1) % len(kinds)]
            yield rows, {key: value.to(device) for key, value in feed.batch(rows).items()}

    optimizer = steps.optimizer()
    scheduler = steps.schedule(optimizer, 1)
    with clock.bar("steps", _ROUNDS * len(kinds) + 1) as bar:
        steps.learn(batches(), optimizer, scheduler, bar)
    laps = clock.laps.pop("steps")[1:]
    return [statistics.median(laps[i :: len(kinds)]) for i in range(len(kinds))]


def _validated(run: Run, feed: Feed) -> float:
    """Return the seconds for what the model says of a feed, once it has said it before."""
    for _ in range(2):
        began = time.perf_counter()
        outputs(run.task, run.model, feed, run.base, batch_size=run.options.per_device_eval_batch_size)
    return time.perf_counter() - began


def _held_out(feed: Feed, size: int) -> list[list[int]]:
    """Return the shortest, the middle and the longest of the batches that validation has."""
    order = sorted(range(len(feed)), key=lambda i: (feed.shapes[i], i))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batches[k] for k in sorted({0, len(batches) // 2, len(batches) - 1})]


def _tokens_padded(feed: Feed, options: TrainingOptions) -> int:
    """Return the tokens of a feed in batches as validation has them, padding included."""
    size = options.per_device_eval_batch_size
    order = sorted(range(len(feed)), key=lambda i: (feed.shapes[i], i))
    return sum(_padded(feed, order[start : start + size]) for start in range(0, len(order), size))


def _padded(feed: Feed, rows: Sequence[int]) -> int:
    return len(rows) * max(count * longest for count, longest in (feed.shapes[i] for i in rows))


def _some(feed: Feed, rows: Sequence[int]) -> Feed:
    return Feed(feed.features.select(rows), feed.collate)


# ---- the trunk


def _trunk(run: Run, steps: Steps, whole: dict[str, Feed]) -> TrunkPlan:
    """Tell whether the trunk would be kept of all rows, and in how many bytes."""
    if run.trunk is None:
        return TrunkPlan(False, _clock(run).notes["trunk"].removeprefix("not cached: "))
    size = sum(_bytes(run.trunk, steps.feeds[split], feed) for split, feed in whole.items())
    return TrunkPlan(True, run.trunk.depth, size, size <= room_for(run.options))


def _bytes(trunk: Trunk, few: Feed, whole: Feed) -> int:
    """Return the bytes for what the trunk says of all rows, going by what is kept of a few."""
    assert isinstance(few, Kept)
    counts = trunk.counts(whole.features)
    found = 0
    for name, states in few.states.items():
        alone = few.level != "all" or name == "pooled"
        texts = counts[name] if name in counts else counts[""]
        found += (len(texts) if alone else sum(texts)) * states.width * states.dtype.itemsize
    return found


def _filling(clock: _Clock, few: dict[str, Feed], whole: dict[str, Feed]) -> float:
    """Return the seconds for running the trunk over all rows, going by the tokens of a few, but for the first batch."""
    laps, tried, tokens = clock.laps["running the trunk"], _chunked(few), _chunked(whole)
    if len(laps) == len(tried) > 1:
        return laps[0] + sum(laps[1:]) / sum(tried[1:]) * (sum(tokens) - tokens[0])
    return sum(laps) / sum(tried) * sum(tokens)


def _chunked(feeds: dict[str, Feed]) -> list[int]:
    """Return the tokens, padding included, of each batch in which the frozen base is run over feeds."""
    found = []
    for feed in feeds.values():
        order = sorted(range(len(feed)), key=lambda i: (feed.shapes[i], i))
        found += [_padded(feed, chunk) for chunk in chunks(order, feed.shapes)]
    return found


# ---- a probe


def _solved(run: Run, mixed: Precision, memory: _Memory) -> _Trial:
    """Solve a probe on some of the rows, and go by their number and their tokens to all of them."""
    clock, data, options = _clock(run), run.data, run.options
    run.model = run.base.model  # for collating
    whole = encoded(run)
    draw = np.random.default_rng(options.seed)
    run.data = {
        split: data[split].select(sorted(draw.permutation(len(data[split]))[:most].tolist()))
        for split, most in _ROWS.items()
    }
    run.options = replace(options, keep_features=False)
    began = time.perf_counter()
    solve(run, mixed)
    took = time.perf_counter() - began
    few = {split: Feed(rows, whole[split].collate) for split, rows in run.features.items()}
    base_ran = sum(clock.laps["running the base"])
    by_token = run.task.auto_class in BY_TOKEN
    passed = _passed(whole, by_token) / _passed(few, by_token)
    validation = _validated(run, few["validation"])
    more = len(whole["train"]) / len(few["train"])
    units = [_units(feeds, by_token) for feeds in (few, whole)]
    width, forms = run.base.model.config.hidden_size, 1 if by_token else len(POOLINGS) * (1 + _depth(run))
    grows = 2 * forms * width * 4 * (units[1] - units[0])  # kept, and gathered to be solved
    return _Trial(
        TrunkPlan(False, "a probe has what the base says in memory, while it is solved"),
        None,
        Seconds(
            start=0.0,
            trunk=base_ran * passed,
            training=max(0.0, took - base_ran - validation) * more,
            validation=validation
            * _tokens_padded(whole["validation"], options)
            / _tokens_padded(few["validation"], options),
            epochs=1,
        ),
        memory.growth() + grows,
    )


def _depth(run: Run) -> int:
    from .modules import blocks

    return len(blocks(run.base.model))


def _units(feeds: dict[str, Feed], by_token: bool) -> int:
    """Return how many vectors a probe is solved on: one a text, or one a token."""
    return sum(count * (longest if by_token else 1) for feed in feeds.values() for count, longest in feed.shapes)


def _passed(feeds: dict[str, Feed], by_token: bool) -> int:
    """Return the tokens that the base reads: of a part for all layers, where each token is asked, then all for one."""
    found = 0
    for feed in feeds.values():
        tokens = sum(_chunked({"": feed}))
        found += tokens + (solving.SCREENED if by_token and tokens > solving.SCREENED else 0)
    return found


# ---- what learns


def _parts(parameters: dict[str, Tensor]) -> list[Part]:
    """Group parameters by name and shape, where names differ in numbers alone."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, p in parameters.items():
        groups.setdefault((re.sub(r"\b\d+\b", "*", name), tuple(p.shape)), []).append(name)
    return [Part(_spanning(names), shape, len(names)) for (_, shape), names in groups.items()]


def _spanning(names: Sequence[str]) -> str:
    """Return one name for several that differ in numbers alone.

    >>> _spanning(["layer.0.weight", "layer.1.weight", "layer.4.weight"])
    'layer.0-1,4.weight'
    """
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(_span(sorted({int(v) for v in c})) if c[0].isdigit() else c[0] for c in columns)


def _span(numbers: Sequence[int]) -> str:
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


# ---- measuring


class _Clock(Watch):
    """Time every step of every bar, and keep remarks to itself."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.notes: dict[str, str] = {}
        self.laps: dict[str, list[float]] = {}
        self.start = 0.0

    def note(self, topic: str, text: str) -> None:
        self.notes[topic] = text

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        with self.watch.bar(title, total) as self._bar:
            self._title, self._last = title, time.perf_counter()
            yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        now = time.perf_counter()
        self.laps.setdefault(self._title, []).append(now - self._last)
        self._last = now
        self._bar.advance(steps, **values)


def _clock(run: Run) -> _Clock:
    assert isinstance(run.watch, _Clock)
    return run.watch


class _Memory:
    """How far memory grows from now on: the GPU's where there is one, else what the process has of the machine's."""

    _STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, base: Base) -> None:
        self.on_gpu = torch.cuda.is_available()
        self._loaded = base.nbytes
        gc.collect()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return
        self._before = self._resident()
        try:
            self._RESET.write_text("5")  # the peak that Linux knows of is counted from here
            self._linux = True
        except OSError:
            self._linux = False

    def growth(self) -> int:
        """Return by how many bytes memory has grown at most; where the system can't tell, by how many it has now."""
        if self.on_gpu:
            return max(0, torch.cuda.max_memory_allocated() - self._loaded)
        return max(0, (self._peak() if self._linux else self._resident()) - self._before)

    def _peak(self) -> int:
        lines = self._STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    @staticmethod
    def _resident() -> int:
        found: int = psutil.Process().memory_info().rss
        return found
