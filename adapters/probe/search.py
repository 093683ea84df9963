"""Solve a linear head to convergence on hidden states that are computed once, and choose what it reads by validation.

Layers and poolings are compared by ridge regression, whose solution is in closed form; of the best, the task's own loss
with a penalty on the weights is minimised by L-BFGS (scipy's), from a strong penalty to a weak one, each from where the
one before ended. Features are standardised, and that is folded into the weights in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.base import Base
from ..features.feed import Feed
from ..features.hidden_states import disk_folder
from ..modules import blocks
from ..runtime import processes
from ..watch import Watch
from .examples import Examples, Reader, beside
from .model import POOLINGS, Form, ProbeHead, ProbeModel, layers_of, pooled
from .solver import _NEAR, _NEARER, _THERE, PENALTIES, Solved, _Scored, judge_of, solved

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task

_FINALISTS = 3  # forms that are solved, of all that are screened
_SCREENED = 1 << 28  # bytes of a split's vectors in all forms that are looked at to choose among these


@dataclass(frozen=True)
class SolverOptions:
    """What a run's options say about solving."""

    mixed: str = "no"  # precision in which the base runs over the training rows
    smoothing: float = 0.0  # of labels
    room: float = math.inf  # bytes of memory for vectors; more of them are kept on disk
    watch: Watch = field(default_factory=Watch)


def applies(base: Base, task: Task) -> bool:
    """Tell whether a probe can do the task on the base."""
    encodes = not base.model.config.is_encoder_decoder
    return encodes and task.new_head and task.probe_unit is not None


def initialise(
    base: Base,
    model: Any,
    task: Task,
    features: Mapping[str, Dataset],
    data: Mapping[str, Dataset],
    how: SolverOptions,
) -> Solved | str:
    """Solve the last linear map of a model's head on what goes into it, in place, or say why it can't be solved.

    A fine-tuning then starts from a head that fits the base as it is, and needn't distort it to meet a random one
    (Kumar et al. 2022, arXiv:2202.10054).
    """
    if task.probe_unit is None:
        return f"{task.name} has no head of its own"
    by_token = task.probe_unit == "token"
    collate = task.collate(base.tokenizer, model)
    feeds = {split: Feed(rows, collate) for split, rows in features.items()}
    last = _last_linear(base, model, feeds["train"], task)
    if last is None:
        return f"a {type(model).__name__} has no linear map at its end, one vector a {'token' if by_token else 'text'}"
    if last.out_features != (outputs := task.probe_outputs(model.config)):
        return f"the last linear map of a {type(model).__name__} has {last.out_features} of {outputs} outputs"
    seen: dict[str, Tensor] = {}
    handle = last.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))

    def read(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        model(**batch)
        return {"x": seen["x"]}

    readers = _readers(base, feeds, last.in_features, task, how)
    try:
        for reader in readers.values():
            reader.read(range(len(reader.feed)), read)
    finally:
        handle.remove()
    train, validation = (readers[split].examples("x") for split in ("train", "validation"))
    head = ProbeHead(task, Form((0,), None if by_token else "mean"), model.config, width=last.in_features)
    judge = judge_of(task, features["validation"], data["validation"])
    asked = _asked(train, by_token)
    found = processes.from_main(
        lambda: solved(task, head, asked, validation, judge, smoothing=how.smoothing, near=_NEAR)
    )
    with torch.no_grad():
        last.weight.copy_(found.weight)
        if last.bias is not None:
            last.bias.copy_(found.bias)
    return found


def _last_linear(base: Base, model: Any, feed: Feed, task: Task) -> nn.Linear | None:
    """Return the linear map of the head that is called last, where it is given one vector a text or a token."""
    called: list[tuple[nn.Linear, int]] = []
    own = {id(m) for m in base.model.modules()}
    handles = [
        m.register_forward_pre_hook(lambda module, args: called.append((module, args[0].ndim)))
        for m in model.modules()
        if isinstance(m, nn.Linear) and id(m) not in own
    ]
    batch = {k: v.to(base.model.device) for k, v in feed.batch([0]).items() if k not in task.label_names}
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    wanted = 3 if task.probe_unit == "token" else 2
    return called[-1][0] if called and called[-1][1] == wanted else None


def probe(
    base: Base,
    task: Task,
    features: Mapping[str, Dataset],
    data: Mapping[str, Dataset],
    how: SolverOptions,
) -> tuple[ProbeModel, Solved, list[Any]]:
    """Return the model of a task with the probe that does best on the validation rows, and what it predicts for them.

    `features` have labels, those of validation too. The base runs over each text once, over the training rows in the
    precision of `how`; forms are chosen on a part of large splits. What `how` has no room for is kept on disk.
    """
    collate = task.collate(base.tokenizer, base.model)
    feeds = {split: Feed(rows, collate) for split, rows in features.items()}
    layers = tuple(range(len(blocks(base.model)) + 1))
    by_token = task.probe_unit == "token"
    forms = [Form((k,), p) for k in layers for p in ((None,) if by_token else POOLINGS)]
    width = base.model.config.hidden_size
    finalists = 1 if by_token else _FINALISTS
    readers = _readers(base, feeds, width * finalists, task, how)
    some = {split: _some(feed, by_token, _SCREENED // (4 * width * len(forms))) for split, feed in feeds.items()}
    for split, reader in readers.items():
        reader.read(some[split], _asking(base, forms))

    def explained(form: Form) -> float:
        return _screened(task, *(_asked(readers[s].examples(form, some[s]), by_token) for s in ("train", "validation")))

    chosen = processes.from_main(lambda: sorted(forms, key=explained, reverse=True)[:finalists])
    how.watch.note("probe", f"of {len(forms)} forms, the best at first sight: " + "; ".join(map(str, chosen)))
    for reader in readers.values():
        reader.keep(chosen)
        reader.read(range(len(reader.feed)), _asking(base, chosen))

    judge = judge_of(task, features["validation"], data["validation"])

    def sees(split: str, form: Form) -> Examples:
        return beside([readers[split].examples(Form((k,), form.pooling)) for k in form.layers])

    def solve(form: Form, penalties: Sequence[float], near: float = _NEARER) -> tuple[Form, Solved]:
        head = ProbeModel(base, task, form).probe
        train, validation = _asked(sees("train", form), by_token), sees("validation", form)
        found = solved(task, head, train, validation, judge, smoothing=how.smoothing, near=near, penalties=penalties)
        how.watch.note("", f"{form}: {task.best} {found.value:.4f} at a penalty of {found.penalty:g}")
        return form, found

    def best() -> tuple[Form, Solved]:
        pick = min if task.lower_is_better else max
        found = [solve(form, PENALTIES) for form in chosen]
        form, alone = pick(found, key=lambda one: one[1].value)
        alike = tuple(sorted(k for f in chosen if f.pooling == form.pooling for k in f.layers))
        if len(alike) > 1:
            around = PENALTIES.index(alone.penalty)
            found.append(solve(Form(alike, form.pooling), PENALTIES[max(0, around - 1) : around + 2]))
        form, nearly = pick(found, key=lambda one: one[1].value)
        return solve(form, [nearly.penalty], near=_THERE)

    form, weights = processes.from_main(best)
    examples = sees("validation", form)
    model = ProbeModel(base, task, form)
    with torch.no_grad():
        model.probe.score.weight.copy_(weights.weight)
        model.probe.score.bias.copy_(weights.bias)
        scores = torch.addmm(weights.bias, examples.x, weights.weight.T)
        said = task.outputs(_Scored(model.probe, examples, scores), {})
    return model, weights, task.predictions(said, features["validation"], data["validation"])


def most_cached(base: Base, units: int, by_token: bool) -> int:
    """Return how many bytes of vectors are kept at once of so many units: of all forms at first, then of the best."""
    width, depth = int(base.model.config.hidden_size), len(blocks(base.model)) + 1
    forms, finalists = (depth, 1) if by_token else (depth * len(POOLINGS), _FINALISTS)
    return max(min(units * width * 4 * forms, _SCREENED), units * width * 4 * (1 if by_token else 2 * finalists))


def _some(feed: Feed, by_token: bool, most: int) -> list[int]:
    """Return features drawn at random that are no more than about so many vectors."""
    order = np.random.default_rng(0).permutation(len(feed))
    units = np.cumsum([count * (longest if by_token else 1) for count, longest in (feed.shapes[i] for i in order)])
    return sorted(order[: int(np.searchsorted(units, most)) + 1].tolist())


def _readers(
    base: Base, feeds: Mapping[str, Feed], width: int, task: Task, how: SolverOptions
) -> dict[str, Reader[Any]]:
    """Return what collects `width` numbers a unit of each split, in memory if `how` has room for them.

    Raises `OSError` where the disk has none, either.
    """
    found = {}
    for split, feed in feeds.items():
        mixed = how.mixed if split == "train" else "no"
        found[split] = Reader[Any](
            feed,
            base.model.device,
            by_token=task.probe_unit == "token",
            label_names=task.label_names,
            mixed=mixed,
            watch=how.watch,
        )
    size = sum(int(reader.counts.sum()) for reader in found.values()) * width * 4
    if size > how.room:
        for reader in found.values():
            reader.folder = disk_folder(size)
    return found


def _asking(base: Base, forms: Sequence[Form]) -> Callable[[dict[str, Tensor]], dict[Form, Tensor]]:
    """Return what runs the base over a batch and gives what each form sees."""
    layers = frozenset(k for form in forms for k in form.layers)

    def ask(batch: dict[str, Tensor]) -> dict[Form, Tensor]:
        flat = {k: v.flatten(0, -2) for k, v in batch.items()}
        hidden = layers_of(base.model, flat.pop("input_ids"), layers, **flat)
        mask = flat["attention_mask"]
        return {
            f: f.read(hidden) if f.pooling is None else pooled(f.read(hidden).float(), mask, f.pooling) for f in forms
        }

    return ask


def _asked(e: Examples, by_token: bool) -> Examples:
    """Return the units that have a label, where tokens have one each."""
    return e.asked() if by_token and "labels" in e.labels else e


def _screened(task: Task, train: Examples, validation: Examples) -> float:
    """Return what share of the labels' variance on the validation rows ridge regression explains."""
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False).clamp(min=1e-6)
    x, other = ((e.x - mean) / scale for e in (train, validation))
    y, truth = (task.probe_targets(e.labels, e.counts.tolist(), e.choices) for e in (train, validation))
    level = y.mean(0)
    gram, product = ((x.T @ right / len(x)).double() for right in (x, y - level))
    spread = ((truth - level) ** 2).sum(0).clamp(min=1e-6)
    found = []
    for penalty in (1e-2, 1e-1, 1.0, 10.0, 100.0):
        factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
        guess = other @ torch.cholesky_solve(product, factor).float() + level
        found.append(float((1 - ((truth - guess) ** 2).sum(0) / spread).mean()))
    return max(found)
