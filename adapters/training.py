"""Train a strategy and a head on a shared base, under Accelerate, and give the base back as it was."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import Tensor, nn
from transformers import get_scheduler

from .adapter import Adapter
from .base import Base
from .errors import StrategyError, TrainingError
from .evaluation import encode, logits
from .patch import Patch, Replace
from .settings import TrainingOptions
from .strategy import Strategy
from .watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

    from .tasks import Task


@dataclass(frozen=True)
class Trained:
    """What a training gives: an adapter, the metrics of each epoch, and what it cost."""

    adapter: Adapter
    history: list[dict[str, float]]  # mean loss and validation metrics, an entry per epoch
    best_epoch: int  # counted from 1
    trained_parameters: int
    seconds: float


def train(
    base: Base,
    task: Task,
    strategy: Strategy,
    data: Mapping[str, Dataset],
    options: TrainingOptions,
    *,
    about: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train `strategy` and the head of `task` on `data["train"]`; keep the epoch that is best on `data["validation"]`.

    The base is bit for bit itself again when this returns or raises. `about` goes into the adapter's manifest. Raises
    `StrategyError` where the strategy doesn't fit the base, and `TrainingError` where the loss isn't finite or no
    weight moved.
    """
    watch = watch or Watch()
    began = time.perf_counter()
    set_seed(options.seed)
    with _fitted(base, strategy) as (learning, before):
        model = base.task_model(task.auto_class, **task.config())
        own = set(base.head_names(model))
        head = {name: p for name, p in model.named_parameters() if name in own}
        in_use = {id(p) for p in model.parameters()}
        learning = [p for p in learning if id(p) in in_use]  # a pooler that this task has no use for doesn't learn
        trainable = [*learning, *head.values()]
        count = sum(p.numel() for p in trainable)
        total = sum(p.numel() for p in model.parameters())
        watch.note("strategy", f"{count:,} of {total:,} parameters learn ({count / total:.2%})")
        start = [p.detach().clone() for p in trainable]
        history, best_epoch = _loop(base, model, task, strategy, trainable, data, options, watch)
        if all(torch.equal(p, s) for p, s in zip(trainable, start, strict=True)):
            raise TrainingError(
                f"no weight moved in {options.num_train_epochs} epochs at learning_rate={strategy.learning_rate}"
            )
        patches = {
            module: _lowered(patch, base.model, module, before)
            for module, patch in strategy.patches(base.model).items()
        }
        adapter = Adapter.make(
            base,
            model,
            {module: patch for module, patch in patches.items() if patch.tensors()},
            {name: p.detach() for name, p in head.items()},
            about or {},
        )
    return Trained(adapter, history, best_epoch, count, time.perf_counter() - began)


@contextlib.contextmanager
def _fitted(base: Base, strategy: Strategy) -> Iterator[tuple[list[nn.Parameter], dict[str, Tensor]]]:
    """Apply a strategy; yield what learns, and copies of the base's own tensors among it; put all back at the end."""
    own = dict(base.model.named_parameters())
    before: dict[str, Tensor] = {}
    try:
        learning = list({id(p): p for p in strategy.apply(base.model)}.values())
        chosen = {id(p) for p in learning}
        before.update({name: p.detach().clone() for name, p in own.items() if id(p) in chosen})
        base.model.requires_grad_(False)
        for p in learning:
            p.requires_grad_(True)
        yield learning, before
    finally:
        strategy.remove(base.model)
        with torch.no_grad():
            for name, values in before.items():
                own[name].copy_(values)
        for p in own.values():
            p.grad = None
        base.model.requires_grad_(False).eval()
        left = [name for name, p in base.model.named_parameters() if own.get(name) is not p]
        if left or len(own) != len(dict(base.model.named_parameters())):
            raise StrategyError(
                f"{type(strategy).__name__}.remove left the base changed, first at {(left or ['?'])[0]}"
            )


def _lowered(patch: Patch, base: nn.Module, module: str, before: Mapping[str, Tensor]) -> Patch:
    """Drop from a patch of replaced tensors those that are what the base has."""
    if not isinstance(patch, Replace):
        return patch
    moved = {
        name: tensor
        for name, tensor in patch.replaced.items()
        if not _same(tensor, before.get(f"{module}.{name}" if module else name))
    }
    return Replace(moved)


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(tensor, other)


def _loop(
    base: Base,
    model: Any,
    task: Task,
    strategy: Strategy,
    trainable: list[nn.Parameter],
    data: Mapping[str, Dataset],
    options: TrainingOptions,
    watch: Watch,
) -> tuple[list[dict[str, float]], int]:
    """Train in place, leave what learns as it was after the best epoch; return the epochs and which was best."""
    accelerator = accelerate.Accelerator(
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=options.seed),
    )
    collate = task.collate(base.tokenizer)
    features = {
        split: encode(task, data[split], base.tokenizer, labelled=split == "train") for split in ("train", "validation")
    }
    loader = torch.utils.data.DataLoader(
        features["train"], batch_size=options.per_device_train_batch_size, shuffle=True, collate_fn=collate
    )
    optimizer = torch.optim.AdamW(_groups(model, trainable, options), lr=strategy.learning_rate)
    updates = math.ceil(len(loader) / options.gradient_accumulation_steps) * options.num_train_epochs
    scheduler = get_scheduler(
        options.lr_scheduler_type, optimizer, int(updates * options.warmup_ratio), num_training_steps=updates
    )
    prepared, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    history: list[dict[str, float]] = []
    best: tuple[float, int, list[Tensor]] | None = None
    for epoch in range(1, options.num_train_epochs + 1):
        loader.set_epoch(epoch - 1)
        title = f"epoch {epoch}/{options.num_train_epochs}"
        with watch.bar(title, len(loader)) as bar:
            loss = _epoch(accelerator, prepared, loader, optimizer, scheduler, options, strategy, bar)
        found = logits(model, features["validation"], collate, batch_size=options.per_device_eval_batch_size)
        metrics = task.metrics(found, data["validation"])
        history.append({"loss": loss, **metrics})
        watch.epoch(epoch, options.num_train_epochs, history[-1])
        if best is None or metrics[task.best] > best[0]:
            best = (metrics[task.best], epoch, [p.detach().clone() for p in trainable])
    assert best is not None
    with torch.no_grad():
        for p, values in zip(trainable, best[2], strict=True):
            p.copy_(values)
    return history, best[1]


def _epoch(
    accelerator: accelerate.Accelerator,
    model: Any,
    loader: Any,
    optimizer: Any,
    scheduler: Any,
    options: TrainingOptions,
    strategy: Strategy,
    bar: Watch,
) -> float:
    """Learn from every batch once and return the mean loss."""
    model.train()
    losses: list[float] = []
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} at step {len(losses)} of this epoch; learning_rate is "
                    f"{strategy.learning_rate}, try a lower one"
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients and options.max_grad_norm:
                accelerator.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
    return sum(losses) / len(losses)


def _groups(model: nn.Module, trainable: list[nn.Parameter], options: TrainingOptions) -> list[dict[str, Any]]:
    """Return AdamW's groups: weights decay, biases and norms (one dimension) don't, as in the BERT paper's recipe."""
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
