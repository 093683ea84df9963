"""The cache of hidden states of frozen layers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from ..base.base import Base
from ..errors import TrainingError
from ..evaluation.outputs import apart
from ..features import cache
from ..features.feed import Feed, chunks, rows
from ..features.hidden_states import States, disk
from ..runtime import processes
from ..runtime.precision import precision
from ..settings import TrainingOptions
from ..watch import Watch
from .fit import Fitted
from .trunk import Trunk, _first_token, _largest, _Now, _on, find

if TYPE_CHECKING:
    from ..tasks import Task


@dataclass
class Kept(Feed):
    """A split's features, with what the trunk said of them."""

    feed: Feed
    trunk: Trunk
    level: str = "all"
    states: dict[str, States] = field(default_factory=dict)
    in_memory: bool = True
    was_stored: bool = False  # by an earlier run

    def __post_init__(self) -> None:
        self.shapes = self.feed.shapes
        choices = [count for count, _ in self.shapes]
        self.first = np.cumsum([0, *choices])
        """Where each feature's texts begin; all but multiple choice have one."""
        self._whole: dict[str, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(states.nbytes for states in self.states.values())

    # ---- filling

    def made(self, counts: Mapping[str, Sequence[int]], said: Mapping[str, Any], room: float) -> None:
        """Make room for values like those `said` first."""
        like: dict[str, tuple[Sequence[int], Tensor]] = {}
        if self.trunk.whole:
            self._type = type(said[""])
            hidden, pooled = said[""][0], said[""].get("pooler_output")
            one = [1] * len(counts[""])
            if self.level != "pooled":
                like["hidden"] = (counts[""] if self.level == "all" else one, hidden)
            if self.level != "first" and pooled is not None:
                like["pooled"] = (one, pooled)
        else:
            like = {stack: (counts[stack], hidden) for stack, hidden in said.items()}
        size = sum(sum(each) * value.shape[-1] * value.element_size() for each, value in like.values())
        self.in_memory = size <= room
        folder = None if self.in_memory else disk(size)
        for name, (each, value) in like.items():
            self.states[name] = States(each, value.shape[-1], value.dtype, folder)

    def put(self, indices: Sequence[int], batch: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
        """Keep what was said of a batch of features."""
        texts = self.texts(indices)
        masks = self.trunk.masks(batch)
        for name, states in self.states.items():
            if name == "pooled":
                states.put(texts, said[""]["pooler_output"])
            elif name == "hidden":
                hidden = said[""][0]
                states.put(texts, hidden[:, 0] if self.level == "first" else hidden[masks[""]])
            else:
                states.put(texts, said[name][masks[name]])

    def close(self) -> None:
        """Let go of the files; what is mapped of them stays."""
        for states in self.states.values():
            states.close()

    def recalled(self, mixed: str) -> bool:
        """Take what an earlier run kept of the same texts, base and cut; return whether there was any."""
        tensors = cache.recall(self._file(mixed))
        if tensors is None or set(tensors) != set(self.states):
            return False
        for name, states in self.states.items():
            states.put_back(tensors[name])
        self.in_memory, self.was_stored = False, True
        return True

    def remember(self, mixed: str) -> None:
        """Keep it all for later runs."""
        cache.remember(self._file(mixed), {name: states.values for name, states in self.states.items()})

    def _file(self, mixed: str) -> Path:
        trunk = self.trunk
        read = cache.digest(self.feed.features, labels=trunk.generates)
        cut = [str(trunk.base.model.dtype), trunk.whole, trunk.frozen, list(trunk.stacks), self.level]
        kinds = [str(s.dtype) for s in self.states.values()]
        return cache.place(trunk.base.fingerprint, trunk.base.revision, cut, kinds, mixed, read)

    # ---- batches

    def texts(self, indices: Sequence[int]) -> np.ndarray:
        """Return the texts of some features, a feature's after another's."""
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in indices])

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return some features as one batch, of single tokens where the head reads no others."""
        if self.level == "all":
            return self.feed.batch(indices)
        if self._whole is None:  # nothing but labels is left to pad
            parts = [
                self.feed.collate([_first_token(row) for row in rows(self.feed.features, some)])
                for some in np.array_split(np.arange(len(self)), len(self) // 10_000 + 1)
            ]
            self._whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        where = torch.as_tensor(indices)
        return {key: value[where] for key, value in self._whole.items()}

    @contextlib.contextmanager
    def using(self, indices: Sequence[int], batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Have the trunk's model take, inside, what was kept of a batch."""
        self.trunk.now = _Now(self, self.texts(indices), self.trunk.masks(batch))
        try:
            yield
        finally:
            self.trunk.now = None

    def padded(self, now: _Now, stack: str, like: Tensor) -> Tensor:
        """Return the hidden states of a batch's texts, (texts, tokens, features), zeros where there are none."""
        values = self.states[stack].take(now.texts).to(like.device)
        whole = values.new_zeros(*like.shape[:2], values.shape[-1])
        whole[now.masks[stack]] = values
        return whole

    def output(self, now: _Now) -> Any:
        """Return what the base says of a batch's texts."""
        device, texts = now.masks[""].device, now.texts
        said: dict[str, Tensor] = {}
        if "pooled" in self.states:
            said["pooler_output"] = self.states["pooled"].take(texts).to(device)
        mask = now.masks[""]
        if self.level == "all":
            values = self.states["hidden"].take(texts).to(device)
            hidden = values.new_zeros(*mask.shape, values.shape[-1])
            hidden[mask] = values
        elif self.level == "first":
            hidden = self.states["hidden"].take(texts).to(device).unsqueeze(1)
        else:  # it isn't read, but it stands first
            hidden = torch.zeros(1, device=device).expand(len(texts), 1, self.trunk.width)
        return self._type(last_hidden_state=hidden, **said)


def fill(trunk: Trunk, feed: Feed, room: float, watch: Watch, *, mixed: str = "no", store: bool = False) -> Kept:
    """Run the trunk over a split and keep what it says: in memory where it takes no more than `room` bytes.

    With `store`, what an earlier run kept is taken, and what is computed is kept for later ones. Raises `OSError`
    where it takes a file and the disk is full.
    """
    kept = Kept(feed, trunk)
    counts = trunk.counts(feed.features)
    order = sorted(range(len(feed)), key=lambda i: (feed.shapes[i], i))
    here, several = processes.on_node()
    each = list(chunks(order, feed.shapes))
    whole = len(each) >= 4 * several  # else they are cut, so that each process has as much
    mine = each[here::several] if whole else [part for chunk in each if (part := chunk[here::several])]
    was_training = trunk.model.training
    trunk.model.eval()
    half = torch.autocast(trunk.model.device.type, torch.bfloat16, enabled=mixed == "bf16")
    try:
        with contextlib.closing(kept), torch.no_grad():
            with half:
                said = trunk._watched(_on(feed.batch(order[:4]), trunk.model.device))
            kept.level = trunk._level(feed, order[:4], said)
            kept.made(counts, said, room)
            if store and all(processes.gathered(kept.recalled(mixed))):
                return kept
            with processes.agreed(OSError), watch.bar("running the trunk", sum(map(len, mine))) as bar:
                for chosen in mine:
                    batch = _on(feed.batch(chosen), trunk.model.device)
                    with half:
                        said = trunk._watched(batch)
                    kept.put(chosen, batch, said)
                    bar.advance(len(chosen))
            for states in kept.states.values():
                states.done()
    finally:
        trunk.model.train(was_training)
    if store and here == 0:
        try:
            kept.remember(mixed)
        except OSError as error:
            watch.note("trunk", f"not kept for later runs: {error.strerror or error}")
    return kept


def cached(
    base: Base,
    model: Any,
    task: Task,
    fit: Fitted,
    feeds: Mapping[str, Feed],
    options: TrainingOptions,
    watch: Watch,
) -> tuple[Trunk | None, dict[str, Feed]]:
    """Return the trunk and the splits with what it says of them, or no trunk and the splits as they are.

    Says which and why. Raises `TrainingError` where the options ask for a trunk and there is none.
    """
    try:
        trunk = _worth_it(base, model, task, fit, options)
        kept: dict[str, Feed] = {}
        room = min(processes.gathered(room_for(options)))
        for split, feed in feeds.items():
            mixed, store = precision(options.mixed_precision).name, options.keep_features
            if trunk.whole and split != "train":
                mixed = "no"  # so that what is measured is what the finished model says
            kept[split] = found = fill(trunk, feed, room, watch, mixed=mixed, store=store)
            room -= found.nbytes if found.in_memory else 0
        first = next(iter(kept.values()))
        assert isinstance(first, Kept)
        difference = max(processes.gathered(_difference(trunk, first, precision(options.mixed_precision).name)))
        if not difference <= 1e-3:
            raise _NoTrunk(f"what was kept gives other outputs, by {difference:.2g}")
    except (_NoTrunk, OSError) as error:
        reason = str(error) if isinstance(error, _NoTrunk) else f"can't keep it: {error.strerror or error}"
        if options.cache_trunk == "on":
            raise TrainingError(f"--cache-trunk on: {reason}") from error
        watch.note("trunk", f"not cached: {reason}")
        return None, dict(feeds)
    rows = sum(map(len, kept.values()))
    size = sum(k.nbytes for k in kept.values() if isinstance(k, Kept))
    if all(k.was_stored for k in kept.values() if isinstance(k, Kept)):
        watch.note("trunk", f"{trunk.depth}: kept of {rows:,} texts by an earlier run, {size / 1e6:,.1f} MB")
        return trunk, kept
    where = "memory" if all(k.in_memory for k in kept.values() if isinstance(k, Kept)) else "a file"
    watch.note("trunk", f"{trunk.depth} run once over {rows:,} texts and kept: {size / 1e6:,.1f} MB in {where}")
    return trunk, kept


class _NoTrunk(Exception):
    """Why the trunk isn't cached."""


def _worth_it(base: Base, model: Any, task: Task, fit: Fitted, options: TrainingOptions) -> Trunk:
    if options.cache_trunk == "off":
        raise _NoTrunk("--cache-trunk off")
    if options.cache_trunk == "auto" and options.num_train_epochs < 2 and not options.keep_features:
        raise _NoTrunk("in one epoch nothing is used twice")
    found = find(base, model, task, fit)
    if isinstance(found, str):
        raise _NoTrunk(found)
    return found


def room_for(options: TrainingOptions) -> float:
    """Return how many bytes of memory what is kept may take."""
    if options.cache_memory is not None:
        return options.cache_memory * (1 << 30)
    return float(psutil.virtual_memory().available / 4)


def _difference(trunk: Trunk, kept: Kept, mixed: str) -> float:
    """Return by how much what the model says of a few features differs with what is kept, in shares of the largest.

    Each is filled and asked by itself, so that both sides round alike.
    """

    def said(feed: Feed, i: int) -> Any:
        batch = {k: v.to(trunk.model.device) for k, v in feed.batch([i]).items()}
        with torch.no_grad(), feed.using([i], batch):
            return trunk.task.outputs(trunk.model, batch)

    few = range(min(4, len(kept)))
    own = [said(kept.feed, i) for i in few]
    alone = [Feed(kept.feed.features.select([i]), kept.feed.collate) for i in few]
    filled = [fill(trunk, feed, math.inf, Watch(), mixed=mixed) for feed in alone]
    with trunk.exchanged():
        taken = [said(feed, 0) for feed in filled]
    return apart(own, taken) / max(1.0, _largest(own))
