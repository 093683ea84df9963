"""Hidden states of a frozen base as the inputs of a linear probe: a vector for each text, or for each token."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..execution import processes
from ..features.feed import Feed, by_length, chunks
from ..features.hidden_states import HiddenStates
from ..tasks.multiple_choice import real_choices
from ..watch import Watch

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Examples:
    """Vectors of some texts, and their labels."""

    x: Tensor  # (units, features)
    counts: np.ndarray  # units of each text
    choices: int | None  # texts per row in multiple choice
    labels: Mapping[str, Tensor]  # as the task's loss reads them; one per token where units are tokens
    real: Tensor | None = None  # (rows, choices), which of them have a text; None: all
    mean: Tensor | None = None  # of each feature, subtracted before dividing by `scale`
    scale: Tensor | None = None

    def standardised(self, mean: Tensor, scale: Tensor) -> Examples:
        """Return the same examples with features standardised, without copying them."""
        return replace(self, mean=mean, scale=scale)

    def scores(self, weights: Tensor) -> Tensor:
        """Return (units, outputs) for weights of (outputs, features + 1), the bias last."""
        weight, bias = self.unscaled(weights)
        return torch.addmm(bias, self.x, weight.T)

    def unscaled(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias for raw features that are equal to `weights` for standardised ones."""
        weight, bias = weights[:, :-1], weights[:, -1]
        if self.mean is None or self.scale is None:
            return weight, bias
        weight = weight / self.scale
        return weight, bias - weight @ self.mean

    def with_labels(self) -> Examples:
        """Return the tokens that have a label, where each token can have one."""
        mask = self.labels["labels"][0] != -100
        return Examples(self.x[mask], np.array([int(mask.sum())]), None, {"labels": self.labels["labels"][:, mask]})


def concatenated(several: Sequence[Examples]) -> Examples:
    """Return the same units with the features of several layers concatenated."""
    return several[0] if len(several) == 1 else replace(several[0], x=torch.cat([e.x for e in several], 1))


class Reader(Generic[K]):
    """Collects vectors of the texts of a split in several forms, each text once."""

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
        """Store vectors in memory, or in unnamed files in `folder`; `label_names` are inputs of the loss only."""
        self.feed, self.device, self.by_token, self.mixed, self.watch = feed, device, by_token, mixed, watch
        self.folder, self.label_names = folder, tuple(label_names)
        self.counts = np.array([longest if by_token else 1 for count, longest in feed.shapes for _ in range(count)])
        self.first = np.cumsum([0, *(count for count, _ in feed.shapes)])  # text of each feature
        self.labels: dict[int, dict[str, Tensor]] = {}  # by feature
        self.real: dict[int, Tensor] = {}  # by feature, which of several choices are no fillings
        self.states: dict[K, HiddenStates] = {}

    def read(self, features: Iterable[int], run: Callable[[dict[str, Tensor]], Mapping[K, Tensor]]) -> None:
        """Run `run` over batches of `features`, skipping those read before, and store the vectors it returns.

        `run` returns a tensor per form: (texts, features), or (texts, tokens, features) where units are tokens. Raises
        `OSError` if the disk is full.
        """
        shapes = self.feed.shapes
        order = by_length(shapes, (i for i in features if i not in self.labels))
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed == "bf16")
        rank, count = processes.on_node()

        def run_on_device(batch: dict[str, Tensor]) -> Mapping[K, Tensor]:
            with autocast:
                return run({k: v.to(self.device) for k, v in batch.items() if k not in self.label_names})

        with torch.no_grad(), self.watch.bar("running the base", len(order)) as bar:
            if order and count > 1:
                self._allocate(run_on_device(self.feed.batch(order[:1])))
            with processes.agreed(OSError):
                for turn, chosen in enumerate(chunks(order, shapes, self.device)):
                    batch = self.feed.batch(chosen)
                    self._label(chosen, batch)
                    if turn % count == rank:
                        mask = self.feed.modality.mask(batch)
                        vectors = run_on_device(batch)
                        self._allocate(vectors)
                        for key, x in vectors.items():
                            self.states[key].write(self._texts(chosen), x[mask.to(x.device)] if self.by_token else x)
                    bar.advance(len(chosen))
        for states in self.states.values():
            states.finish()

    def take(
        self,
        features: Sequence[int],
        run: Callable[[dict[str, Tensor]], Mapping[K, Tensor]],
        vectors: Mapping[Hashable, Tensor],
    ) -> bool:
        """Store vectors of `features` that another reader computed, where `run` returns the same for the first batch.

        Returns whether they were stored; `vectors` are in memory, and `features` the first that are read.
        """
        shapes = self.feed.shapes
        batches = list(chunks(by_length(shapes, features), shapes, self.device))
        first = Reader[K](
            self.feed,
            self.device,
            by_token=self.by_token,
            label_names=self.label_names,
            mixed=self.mixed,
            watch=Watch(),
        )
        first.read(batches[0], run)
        texts = self._texts(batches[0])
        self._allocate({key: states.values for key, states in first.states.items()})
        for key, states in self.states.items():
            if key not in vectors or vectors[key].shape != states.values.shape:
                self.states = {}
                return False
            states.values = vectors[key]
            if not torch.equal(states.read(texts), first.states[key].read(texts)):
                self.states = {}
                return False
        for chosen in batches:
            self._label(chosen, self.feed.batch(chosen))
        return True

    def _allocate(self, like: Mapping[K, Tensor]) -> None:
        """Allocate memory or a file for forms that have none; a collective call of all processes."""
        for key, x in like.items():
            if key not in self.states:
                self.states[key] = HiddenStates(self.counts, x.shape[-1], torch.float32, self.folder)

    def _label(self, chosen: Sequence[int], batch: Mapping[str, Tensor]) -> None:
        """Store the labels of a batch, without those of padding."""
        mask = self.feed.modality.mask(batch)
        _, (_, *choices) = self.feed.modality.flat(batch)
        for row, i in enumerate(chosen):
            labels = {k: batch[k][row] for k in self.label_names if k in batch}
            self.labels[i] = {k: v[mask[row]] if v.ndim and self.by_token else v for k, v in labels.items()}
            if choices:
                self.real[i] = real_choices(batch["attention_mask"][row])

    def select(self, keys: Iterable[K]) -> None:
        """Drop all forms but these."""
        self.states = {key: self.states[key] for key in keys}

    def examples(self, key: K, features: Sequence[int] | None = None) -> Examples:
        """Return some features, or all of them, in one form."""
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
        x, counts = states.values if features is None else states.read(texts), self.counts[texts]
        if not self.real:
            return Examples(x, counts, None, gathered)
        present = torch.cat([self.real[i] for i in rows])
        real = pad_sequence([self.real[i] for i in rows], batch_first=True)  # rows may have different numbers of them
        if real.all():
            return Examples(x, counts, real.shape[1], gathered)
        return Examples(x[present], counts[present.numpy()], real.shape[1], gathered, real)

    def _texts(self, features: Sequence[int]) -> np.ndarray:
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in features])
