"""Texts as a linear map sees them: a vector each, or one a token, of what a frozen base says."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..features.feed import Feed, chunks
from ..features.hidden_states import HiddenStates
from ..runtime import processes
from ..watch import Watch

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Examples:
    """Some texts' vectors, and their labels."""

    x: Tensor  # (units, features)
    counts: np.ndarray  # how many units each text has
    choices: int | None  # texts a row, in multiple choice
    labels: Mapping[str, Tensor]  # as the task's loss wants them; token by token where units are tokens
    mean: Tensor | None = None  # of each feature, to be taken away, and what it is then divided by
    scale: Tensor | None = None

    def standardised(self, mean: Tensor, scale: Tensor) -> Examples:
        """Return the same with features shifted and scaled; nothing is copied."""
        return replace(self, mean=mean, scale=scale)

    def scores(self, weights: Tensor) -> Tensor:
        """Return (units, outputs) for weights of (outputs, features + 1), the bias last."""
        weight, bias = self.unscaled(weights)
        return torch.addmm(bias, self.x, weight.T)

    def unscaled(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias that do with features as they come what `weights` do with standardised ones."""
        weight, bias = weights[:, :-1], weights[:, -1]
        if self.mean is None or self.scale is None:
            return weight, bias
        weight = weight / self.scale
        return weight, bias - weight @ self.mean

    def asked(self) -> Examples:
        """Return the tokens that have a label, where tokens have one each."""
        here = self.labels["labels"][0] != -100
        return Examples(self.x[here], np.array([int(here.sum())]), None, {"labels": self.labels["labels"][:, here]})


def beside(several: Sequence[Examples]) -> Examples:
    """Return the same units with the features of several examples of them, one after another."""
    return several[0] if len(several) == 1 else replace(several[0], x=torch.cat([e.x for e in several], 1))


class Reader(Generic[K]):
    """Collects what a base says of the texts of a split, in several forms, each text read when it is asked for."""

    def __init__(
        self,
        feed: Feed,
        device: torch.device,
        *,
        by_token: bool,
        label_names: Sequence[str],
        mixed: str,
        watch: Watch,
        folder: Path | None = None,
    ) -> None:
        """Store vectors in memory, or in unnamed files in `folder`; `label_names` are what only the loss reads."""
        self.feed, self.device, self.by_token, self.mixed, self.watch = feed, device, by_token, mixed, watch
        self.folder, self.label_names = folder, tuple(label_names)
        self.counts = np.array([longest if by_token else 1 for count, longest in feed.shapes for _ in range(count)])
        self.first = np.cumsum([0, *(count for count, _ in feed.shapes)])  # text of each feature
        self.labels: dict[int, dict[str, Tensor]] = {}  # by feature
        self.states: dict[K, HiddenStates] = {}

    def read(self, features: Iterable[int], ask: Callable[[dict[str, Tensor]], Mapping[K, Tensor]]) -> None:
        """Run some features of the split through `ask`, those apart that were read before.

        It is given a batch, and returns (texts, features), or (texts, tokens, features) where it is by token. Raises
        `OSError` where the disk is full.
        """
        shapes = self.feed.shapes
        order = sorted((i for i in features if i not in self.labels), key=lambda i: (shapes[i], i))
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed == "bf16")
        here, several = processes.on_node()

        def asked(batch: dict[str, Tensor]) -> Mapping[K, Tensor]:
            with half:
                return ask({k: v.to(self.device) for k, v in batch.items() if k not in self.label_names})

        with torch.no_grad(), self.watch.bar("running the base", len(order)) as bar:
            if order and several > 1:
                self._room(asked(self.feed.batch(order[:1])))
            with processes.agreed(OSError):
                for turn, chosen in enumerate(chunks(order, shapes)):
                    batch = self.feed.batch(chosen)
                    self._label(chosen, batch)
                    if turn % several == here:
                        mask = batch["attention_mask"].flatten(0, -2).bool()
                        found = asked(batch)
                        self._room(found)
                        for key, x in found.items():
                            self.states[key].write(self._texts(chosen), x[mask.to(x.device)] if self.by_token else x)
                    bar.advance(len(chosen))
        for states in self.states.values():
            states.finish()

    def _room(self, like: Mapping[K, Tensor]) -> None:
        """Make room for what hasn't any; of several processes, all have to ask for it."""
        for key, x in like.items():
            if key not in self.states:
                self.states[key] = HiddenStates(self.counts, x.shape[-1], torch.float32, self.folder)

    def _label(self, chosen: Sequence[int], batch: Mapping[str, Tensor]) -> None:
        """Note the labels of a batch, of tokens those that are no padding."""
        mask = batch["attention_mask"].flatten(0, -2).bool()
        for row, i in enumerate(chosen):
            own = {k: batch[k][row] for k in self.label_names if k in batch}
            self.labels[i] = {k: v[mask[row]] if v.ndim and self.by_token else v for k, v in own.items()}

    def keep(self, keys: Iterable[K]) -> None:
        """Forget all forms but these."""
        self.states = {key: self.states[key] for key in keys}

    def examples(self, key: K, features: Sequence[int] | None = None) -> Examples:
        """Return some features, or all of them, in one of the forms they were read in."""
        states = self.states[key]
        rows = range(len(self.feed)) if features is None else features
        texts = self._texts(rows)
        labels = [self.labels[i] for i in rows]
        gathered = {
            k: torch.cat([row[k] for row in labels])[None]
            if self.by_token and labels[0][k].ndim
            else torch.stack([row[k] for row in labels])
            for k in labels[0]
        }
        choices = self.feed.shapes[0][0] if self.feed.shapes[0][0] > 1 else None
        x = states.values if features is None else states.read(texts)
        return Examples(x, self.counts[texts], choices, gathered)

    def _texts(self, features: Sequence[int]) -> np.ndarray:
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in features])
