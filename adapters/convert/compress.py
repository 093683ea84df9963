"""Compress an adapter: replaced tensors as differences to the base, with metrics before and after."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..adapter.manifest import TENSORS
from ..base.base import Base
from ..base.tracing import trace
from ..errors import AdapterError
from ..evaluation.evaluate import evaluate, metrics_plain
from ..features.feed import Feed
from ..features.tokenize import tokenized as features_of
from ..patches.encoded import Encoded, Exact, Factors, Sign, factors, signed, signs
from ..patches.low_rank import LowRank
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..settings import check_encoding
from ..tasks import Task
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

_STEPS, _ROWS, _RATE = 100, 16, 0.02  # of the fitting of scales; the rate is relative to each scale
_SEED = 0


class NothingToGain(AdapterError):
    """An encoding would not make the adapter smaller."""


def check_kinds(adapter: Adapter, encoding: str) -> None:
    """Raise `NothingToGain` where an adapter has no patch that an encoding compresses."""
    kinds = {patch["kind"] for patch in adapter.manifest["patches"].values()}
    if encoding == "bf16" or kinds & ({"replace"} | {cls.kind for cls in (Exact, Sign, Factors)}):
        return
    has = f"patches of kind {', '.join(sorted(kinds))}" if kinds else "a head alone"
    raise NothingToGain(
        f"nothing to compress as {encoding}: it replaces nothing of the base: it is {has}; bf16 works on any"
    )


def compress_and_measure(
    base: Base,
    adapter: Adapter,
    encoding: str,
    splits: Mapping[str, Dataset],
    *,
    about: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Adapter:
    """Return an adapter in an encoding, with metrics on validation and test rows before and after.

    The manifest has metrics and sizes of both under `encoding`, with the fields of `about`. 1bit is fitted on
    `splits["train"]`. Raises `NothingToGain`.
    """
    watch = watch or Watch()
    compressed = compress(base, adapter, encoding, splits["train"] if encoding == "1bit" else None, watch=watch)
    measured = {}
    for when, one in (("before", adapter), ("after", compressed)):
        metrics = {
            split: metrics_plain(evaluate(base, one, splits[split], watch=watch).metrics)
            for split in [split for split in ("validation", "test") if split in splits] or ["train"]
        }
        measured[when] = {"bytes": len(one.files()[TENSORS]), "metrics": metrics}
    stated = {"name": encoding, **measured, **(about or {})}
    manifest = {**compressed.manifest, "encoding": stated, "metrics": measured["after"]["metrics"]}
    watch.note("encoded", f"as {encoding}: {_summary(measured, adapter.task.best)}")
    return Adapter(manifest, compressed.tensors)


def _summary(measured: Mapping[str, Any], best: str) -> str:
    """Return bytes and the deciding metric before and after, in one line."""
    split, metrics = list(measured["after"]["metrics"].items())[-1]
    best = best if best in metrics else next(iter(metrics))
    each = (f"{f['bytes']:,} bytes and {best} {f['metrics'][split][best]:.4f} {when}" for when, f in measured.items())
    return f"{', '.join(each)} ({split})"


def compress(
    base: Base, adapter: Adapter, encoding: str, rows: Dataset | None = None, *, watch: Watch | None = None
) -> Adapter:
    """Return an adapter in an encoding; 1bit's scales are fitted on labelled `rows`, if any.

    Raises `NothingToGain`, and `AdapterError` where the adapter belongs to another base.
    """
    check_encoding(encoding)
    check_kinds(adapter, encoding)
    adapter.check_base(base)
    base = adapter.on(base)
    with base.locked():
        decoded = adapter.decoded(base)
        if encoding == "bf16":
            tensors = {n: t.bfloat16() if t.is_floating_point() else t for n, t in decoded.tensors.items()}
            compressed = Adapter(decoded.manifest, tensors)
        else:
            compressed = decoded.patched(_compressed(base, decoded.patches(base), encoding))
    before, after = (sum(t.nbytes for t in one.tensors.values()) for one in (decoded, compressed))
    if after >= before:
        raise NothingToGain(f"nothing to compress as {encoding}: {before:,} bytes of tensors would become {after:,}")
    if encoding == "1bit" and rows is not None:
        compressed = fit_scales(base, decoded, compressed, rows, watch=watch)
    return compressed


def _compressed(base: Base, patches: Mapping[str, Patch], encoding: str) -> dict[str, Patch]:
    """Return patches, with replaced tensors compressed."""
    kind, _, rank = encoding.partition(":")
    alone = _used_elsewhere(base) if kind == "rank" else set()
    result: dict[str, Patch] = {}
    for name, patch in patches.items():
        module = base.model.get_submodule(name)
        if not isinstance(patch, Replace):
            result[name] = patch
        elif kind != "rank":
            cls: type[Encoded] = Exact if kind == "exact" else Sign
            result[name] = cls.compress(patch.replaced, module)
        else:
            result[name] = _low_rank(patch, module, int(rank), map_only=name not in alone)
    return result


def _low_rank(patch: Replace, module: nn.Module, rank: int, *, map_only: bool) -> Patch:
    """Return a replaced linear map as a low-rank update, and any other replaced tensor as factors of its rows."""
    weight = patch.replaced.get("weight")
    linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    others = set(patch.replaced) - {"weight"}
    if weight is None or not linear or not map_only or others - {"bias"}:
        compressed = Factors.compress(patch.replaced, module, rank=rank)
        return compressed if any("." in name for name in compressed.tensors()) else Replace(patch.replaced)
    base_values = module.get_parameter("weight").detach().cpu()
    delta = weight.detach().cpu().double() - base_values.double()
    left, right = factors(delta if isinstance(module, nn.Linear) else delta.mT, rank)  # a Conv1D's is (inputs, outputs)
    bias = patch.replaced.get("bias")
    added = None if bias is None else bias.detach().cpu() - module.get_parameter("bias").detach().cpu()
    low_rank = LowRank(right.to(base_values.dtype), left.to(base_values.dtype), 1.0, added)
    if sum(t.numel() for t in low_rank.tensors().values()) >= weight.numel():
        return Replace(patch.replaced)
    return low_rank


def _used_elsewhere(base: Base) -> set[str]:
    """Return the modules whose parameters are used elsewhere, so that changing their output isn't equivalent."""
    users = Counter(id(p) for module in base.model.modules() for p in module.parameters(recurse=False))
    past = {name.rpartition(".")[0] for name in trace(base.model, base.modality).read_outside}
    tied = {
        name
        for name, module in base.model.named_modules()
        if any(users[id(p)] > 1 for p in module.parameters(recurse=False))
    }
    return past | tied


@dataclass
class _Moved:
    """A parameter of the base that is changed by signs and scales."""

    parameter: nn.Parameter
    base_values: Tensor
    target: Tensor  # of the uncompressed adapter
    mask: Tensor | None  # rows that move
    signs: Tensor  # (rows that move, features)
    scale: Tensor  # (rows that move,)
    factor: nn.Parameter  # times which it is used, (rows that move,)

    def use(self) -> None:
        """Set the base's parameter to the values of signs and scales."""
        moved = signed(self._rows(self.base_values), self.signs, self.scale * self.factor.detach())
        if self.mask is None:
            self.parameter.data = moved
            return
        values = self.base_values.clone()
        values[self.mask] = moved
        self.parameter.data = values

    def collect(self) -> None:
        """Convert the gradient of the parameter to that of the factors."""
        if self.parameter.grad is None:  # the task's outputs don't depend on it
            return
        self.factor.grad = (self._rows(self.parameter.grad).float() * self.signs).sum(1) * self.scale
        self.parameter.grad = None

    def _rows(self, values: Tensor) -> Tensor:
        return values if self.mask is None else values[self.mask]


def fit_scales(
    base: Base, adapter: Adapter, compressed: Adapter, rows: Dataset, *, watch: Watch | None = None
) -> Adapter:
    """Return `compressed` with the scales that minimise the squared error of its logits to those of `adapter`."""
    watch, task = watch or Watch(), adapter.task
    few = rows.select(sorted(random.Random(_SEED).sample(range(len(rows)), min(len(rows), _STEPS * _ROWS))))
    data = features_of(task, few, base, labelled=True)
    with base.locked():
        base_values = {name: p.detach() for name, p in base.model.named_parameters()}
        patches = compressed.patches(base)
    with adapter.attached(base) as model:
        feed = Feed(data, task.collate(base.tokenizer, model), base.modality)
        moved = {
            (m, n): one for m, p in patches.items() if isinstance(p, Sign) for n, one in _moved(base, m, p, base_values)
        }
        first, last = _fit(task, model, feed, list(moved.values()), watch)
    watch.note("scales", f"fitted on {len(few):,} rows: squared error of logits {first:.4g}, then {last:.4g}")
    for (module, name), one in moved.items():
        patch = patches[module]
        stored = {**patch.tensors(), f"{name}.scale": (one.scale * one.factor.detach()).cpu()}
        patches[module] = replace(patch, stored=stored)  # type: ignore[type-var]
    return compressed.patched(patches)


def _moved(base: Base, module: str, patch: Sign, base_values: Mapping[str, Tensor]) -> Iterator[tuple[str, _Moved]]:
    for name in [key.removesuffix(".sign") for key in patch.stored if key.endswith(".sign")]:
        p = base.model.get_submodule(module).get_parameter(name)
        mask, stored = patch.mask(name, p), patch.stored
        scale = stored[f"{name}.scale"].to(p.device)
        directions = signs(stored[f"{name}.sign"], p.shape[1]).to(p.device)
        start = nn.Parameter(torch.ones_like(scale))
        yield (
            name,
            _Moved(p, base_values[f"{module}.{name}" if module else name], p.data, mask, directions, scale, start),
        )


def _fit(task: Task, model: Any, feed: Feed, moved: list[_Moved], watch: Watch) -> tuple[float, float]:
    """Fit factors by Adam; return the mean squared error over the first and the last tenth of the steps."""
    optimizer = torch.optim.Adam([one.factor for one in moved], lr=_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / _STEPS)
    draw, errors = random.Random(_SEED), []
    for one in moved:
        one.parameter.requires_grad_(True)
    try:
        with watch.bar("fitting scales", _STEPS) as bar:
            for _ in range(_STEPS):
                batch = feed.batch(draw.sample(range(len(feed)), min(_ROWS, len(feed))))
                batch = {key: value.to(model.device) for key, value in batch.items()}
                for one in moved:
                    one.parameter.data = one.target
                with torch.no_grad():
                    wanted = _logits(model, task.model_inputs(batch))
                for one in moved:
                    one.use()
                error = torch.stack(
                    [
                        _squared_error(logits, wanted[k], batch)
                        for k, logits in _logits(model, task.model_inputs(batch)).items()
                    ]
                ).sum()
                torch.autograd.backward(error)
                for one in moved:
                    one.collect()
                optimizer.step()
                schedule.step()
                errors.append(float(error.detach()))
                bar.advance(error=errors[-1])
    finally:
        for one in moved:
            one.parameter.requires_grad_(False)
            one.parameter.grad, one.parameter.data = None, one.target
    tenth = max(len(errors) // 10, 1)
    return sum(errors[:tenth]) / tenth, sum(errors[-tenth:]) / tenth


def _logits(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the logits of a task's model by name: `logits`, or `start_logits` and `end_logits`."""
    outputs = model(**batch)
    return {name: value.float() for name, value in outputs.items() if name.endswith("logits")}


def _squared_error(logits: Tensor, wanted: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mean squared difference of logits, for labelled tokens only where labels are per token."""
    labels = batch.get("labels")
    if labels is not None and labels.ndim >= 2 and labels.shape == logits.shape[:-1]:
        logits, wanted = logits[labels != -100], wanted[labels != -100]
    return nn.functional.mse_loss(logits, wanted)
