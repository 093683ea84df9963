"""Cache the outputs of a trunk over a split, in memory or in a file, and replay them batch by batch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from ..base.base import Base
from ..errors import FileError, TrainingError
from ..evaluation.outputs import largest_difference
from ..execution import processes
from ..execution.precision import precision
from ..features import cache
from ..features.feed import Feed, by_length, chunks, rows
from ..features.hidden_states import HiddenStates, disk_folder
from ..features.shared_states import SharedStates
from ..settings import TrainingOptions
from ..watch import Watch
from .fit import Fitted
from .head_inputs import largest, level_of, moved_to
from .trunk import Trunk, find_trunk

if TYPE_CHECKING:
    from ..tasks import Task


@dataclass
class CachedFeed(Feed):
    """A split's features, and the cached outputs of the trunk for them.

    If the whole base is frozen, `level` is the part that the head reads and that is cached: the "pooled" output,
    the "first" token or "all" tokens.
    """

    feed: Feed
    trunk: Trunk
    level: str = "all"
    states: dict[str, HiddenStates] = field(default_factory=dict)  # by stack; "hidden" and "pooled" of the whole base
    in_memory: bool = True
    from_disk: bool = False  # written by an earlier run
    shared: bool = False  # computed by an earlier training of this process

    def __post_init__(self) -> None:
        self.features, self.collate, self.shapes = self.feed.features, self.feed.collate, self.feed.shapes
        self.modality = self.feed.modality
        self.draws = None
        choices = [count for count, _ in self.shapes]
        self.first = np.cumsum([0, *choices])
        """The index of each feature's first text; only features of multiple choice have more than one."""
        self._single_tokens: dict[str, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the cached values."""
        return sum(states.nbytes for states in self.states.values())

    # ---- writing

    def allocate(self, counts: Mapping[str, Sequence[int]], sample: Mapping[str, Any], room: float) -> None:
        """Allocate memory or a file for values like those of `sample`, outputs of the trunk for a few features."""
        like = self._like(counts, sample)
        size = sum(sum(each) * value.shape[-1] * value.element_size() for each, value in like.values())
        self.in_memory = size <= room
        folder = None if self.in_memory else disk_folder(size)
        for name, (each, value) in like.items():
            self.states[name] = HiddenStates(each, value.shape[-1], value.dtype, folder)

    def _like(
        self, counts: Mapping[str, Sequence[int]], sample: Mapping[str, Any]
    ) -> dict[str, tuple[Sequence[int], Tensor]]:
        """Return by name how many vectors each text has, and a tensor of their width and dtype."""
        if not self.trunk.is_whole_base:
            return {stack: (counts[stack], hidden) for stack, hidden in sample.items()}
        self._output_type = type(sample[""])
        hidden, pooled = sample[""][0], sample[""].get("pooler_output")
        one = [1] * len(counts[""])
        like: dict[str, tuple[Sequence[int], Tensor]] = {}
        if self.level != "pooled":
            like["hidden"] = (counts[""] if self.level == "all" else one, hidden)
        if self.level != "first" and pooled is not None:
            like["pooled"] = (one, pooled)
        return like

    def write(self, indices: Sequence[int], batch: Mapping[str, Tensor], outputs: Mapping[str, Any]) -> None:
        """Cache the outputs of the trunk for a batch of features."""
        texts = self.texts(indices)
        masks = self.trunk.masks(batch)
        for name, states in self.states.items():
            if name == "pooled":
                states.write(texts, outputs[""]["pooler_output"])
            elif name == "hidden":
                hidden = outputs[""][0]
                states.write(texts, hidden[:, 0] if self.level == "first" else hidden[masks[""]])
            else:
                states.write(texts, outputs[name][masks[name]])

    def close(self) -> None:
        """Close the files; mapped values stay readable."""
        for states in self.states.values():
            states.close()

    # ---- on disk, between runs

    def read_from_disk(self, mixed: str) -> bool:
        """Read what an earlier run cached for the same texts, base and trunk; return whether all processes could."""
        tensors = cache.read(self._file(mixed)) or {}
        if not all(processes.gathered(set(tensors) == set(self.states))):
            return False
        for name, states in self.states.items():
            states.values = tensors[name]
        self.in_memory, self.from_disk = False, True
        return True

    def write_to_disk(self, mixed: str) -> None:
        """Write all values to disk for later runs."""
        cache.write(self._file(mixed), {name: states.values for name, states in self.states.items()})

    def _file(self, mixed: str) -> Path:
        trunk = self.trunk
        columns = (*self.modality.columns, *(["labels"] if trunk.decodes_labels else []))
        items = cache.digest(self.feed.features, columns)
        layers = [
            str(trunk.base.model.dtype),
            trunk.is_whole_base,
            trunk.frozen_blocks,
            list(trunk.stacks),
            self.level,
        ]
        dtypes = [str(s.dtype) for s in self.states.values()]
        base = [trunk.base.fingerprint, trunk.base.revision, trunk.base.tokenizer_digest]
        return cache.path_of(base, layers, dtypes, mixed, items)

    # ---- in memory, between trainings

    def take(self, shared: SharedStates, mixed: str) -> bool:
        """Take what an earlier training computed for the same texts and trunk; return whether there was any."""
        key = self._file(mixed)
        tensors = shared.get(key) or {}
        if not self.in_memory or set(tensors) != set(self.states):
            return False
        for name, states in self.states.items():
            states.values = tensors[name]
        shared.reused(key)
        self.shared = True
        return True

    def share(self, shared: SharedStates, mixed: str, seconds: float) -> None:
        """Share the values, which took `seconds` to compute, with later trainings."""
        if self.in_memory and processes.count() == 1:
            shared.put(self._file(mixed), {name: s.values for name, s in self.states.items()}, seconds)

    # ---- batches

    def texts(self, indices: Sequence[int]) -> np.ndarray:
        """Return the indices of the texts of some features, feature by feature."""
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in indices])

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return some features as one batch, of single tokens where the head reads no others."""
        if self.level == "all":
            return self.feed.batch(indices)
        if self._single_tokens is None:  # only labels are left to pad, so all features fit into memory at once
            parts = [
                self.feed.collate([self.modality.shortened(row) for row in rows(self.feed.features, some)])
                for some in np.array_split(np.arange(len(self)), len(self) // 10_000 + 1)
            ]
            self._single_tokens = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        index = torch.as_tensor(indices)
        return {key: value[index] for key, value in self._single_tokens.items()}

    @contextlib.contextmanager
    def using(self, indices: Sequence[int], batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Replay the cached outputs for the active batch, which consists of these features."""
        texts, masks = self.texts(indices), self.trunk.masks(batch)
        outputs = {"": self._output(texts, masks[""])} if self.trunk.is_whole_base else self._padded(texts, masks)
        with self.trunk.replaying(outputs):
            yield

    def _padded(self, texts: np.ndarray, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each stack's cached hidden states, (texts, tokens, features), with zeros for padding."""
        return {stack: _scatter(states.read(texts), masks[stack]) for stack, states in self.states.items()}

    def _output(self, texts: np.ndarray, mask: Tensor) -> Any:
        """Return the base's output for some texts, of which `mask` are the tokens, (texts, tokens)."""
        pooled: dict[str, Tensor] = {}
        if "pooled" in self.states:
            pooled["pooler_output"] = self.states["pooled"].read(texts).to(mask.device)
        if self.level == "all":
            hidden = _scatter(self.states["hidden"].read(texts), mask)
        elif self.level == "first":
            hidden = self.states["hidden"].read(texts).to(mask.device).unsqueeze(1)
        else:  # not read by the head, but the first field of the output
            hidden = torch.zeros(1, device=mask.device).expand(len(texts), 1, self.trunk.width)
        return self._output_type(last_hidden_state=hidden, **pooled)


def _scatter(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return vectors of tokens, (vectors, features), padded with zeros to (texts, tokens, features)."""
    vectors = vectors.to(mask.device)
    padded = vectors.new_zeros(*mask.shape, vectors.shape[-1])
    padded[mask] = vectors
    return padded


def fill_cache(
    trunk: Trunk,
    feed: Feed,
    room: float,
    watch: Watch,
    *,
    mixed: str = "no",
    store: bool = False,
    shared: SharedStates | None = None,
) -> CachedFeed:
    """Run the trunk over a split and cache its outputs, in memory where they take no more than `room` bytes.

    With `store`, values cached on disk by an earlier run are read, and computed ones are written there; `shared` has
    those of earlier trainings in memory. Raises
    `OSError` where a file is needed and the disk is full.
    """
    cached = CachedFeed(feed, trunk)
    rank_on_node, _ = processes.on_node()
    was_training = trunk.model.training
    trunk.model.eval()
    try:
        with contextlib.closing(cached), torch.no_grad():
            began = time.perf_counter()
            _fill(cached, room, watch, mixed, store, shared)
            if shared is not None and not cached.shared:
                cached.share(shared, mixed, time.perf_counter() - began)
    finally:
        trunk.model.train(was_training)
    if store and rank_on_node == 0 and not cached.from_disk:
        try:
            cached.write_to_disk(mixed)
        except FileError as error:
            watch.note("trunk", f"hidden states not saved for later runs: {error}")
    return cached


def _fill(cached: CachedFeed, room: float, watch: Watch, mixed: str, store: bool, shared: SharedStates | None) -> None:
    trunk, feed = cached.trunk, cached.feed
    device = trunk.model.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=mixed == "bf16")
    order = by_length(feed.shapes)
    few = order[:4]
    with autocast:
        sample = trunk.run(moved_to(feed.batch(few), device))
    if trunk.is_whole_base and not trunk.task.generates:
        cached.level = level_of(trunk, feed, few, sample[""])
    counts = trunk.counts(feed.features)
    _check_lengths(feed, few, counts, sample)
    cached.allocate(counts, sample, room)
    if shared is not None and cached.take(shared, mixed):
        return
    if store and cached.read_from_disk(mixed):
        return
    mine = _share_of_process(order, feed, device)
    with processes.agreed(OSError), watch.bar("running the trunk", sum(map(len, mine))) as bar:
        for chosen in mine:
            batch = moved_to(feed.batch(chosen), device)
            with autocast:
                outputs = trunk.run(batch)
            cached.write(chosen, batch, outputs)
            bar.advance(len(chosen))
    for states in cached.states.values():
        states.finish()


def _check_lengths(
    feed: Feed, few: Sequence[int], counts: Mapping[str, Sequence[int]], sample: Mapping[str, Any]
) -> None:
    """Raise `_NotCached` where the trunk has another number of hidden states than the modality counts."""
    for stack, output in sample.items():
        hidden = output if isinstance(output, Tensor) else output[0]
        longest = max(counts[stack][i] for i in few) if len(counts[stack]) == len(feed) else hidden.shape[1]
        if hidden.shape[1] != longest:
            raise _NotCached(f"items have {hidden.shape[1]} hidden states, but {feed.modality.name} counts {longest}")


def _share_of_process(order: Sequence[int], feed: Feed, device: torch.device) -> list[list[int]]:
    """Return the batches that this process runs, of those that its node shares."""
    rank, count = processes.on_node()
    batches = list(chunks(order, feed.shapes, device))
    if len(batches) >= 4 * count:
        return batches[rank::count]
    return [part for batch in batches if (part := batch[rank::count])]  # too few to share evenly, so each is split


def cache_trunk(
    base: Base,
    model: Any,
    task: Task,
    fit: Fitted,
    feeds: Mapping[str, Feed],
    options: TrainingOptions,
    watch: Watch,
    shared: SharedStates | None = None,
) -> tuple[Trunk | None, dict[str, Feed]]:
    """Return the trunk and the splits with its outputs cached, or None and the splits unchanged; log which and why.

    Raises `TrainingError` where the options require a cache and there can't be one.
    """
    try:
        trunk = _worth_caching(base, model, task, fit, options)
        cached = _cached_splits(trunk, feeds, options, watch, shared)
        mixed = precision(options.mixed_precision).name
        difference = max(processes.gathered(_difference(trunk, next(iter(cached.values())), mixed)))
        if not difference <= 1e-3:  # nor a NaN
            raise _NotCached(f"outputs computed from cached hidden states differ by {difference:.2g}")
    except (_NotCached, OSError) as error:
        reason = str(error) if isinstance(error, _NotCached) else f"no disk space: {error.strerror or error}"
        if options.cache_trunk == "on":
            raise TrainingError(f"--cache-trunk on: {reason}") from error
        watch.note("trunk", f"not cached: {reason}")
        return None, dict(feeds)
    watch.note("trunk", _described(trunk, list(cached.values())))
    return trunk, dict(cached)


class _NotCached(Exception):
    """The reason why hidden states aren't cached."""


def _worth_caching(base: Base, model: Any, task: Task, fit: Fitted, options: TrainingOptions) -> Trunk:
    if options.cache_trunk == "off":
        raise _NotCached("--cache-trunk off")
    if options.cache_trunk == "auto" and options.num_train_epochs < 2 and not options.keep_features:
        raise _NotCached("in one epoch no hidden states are used twice")
    trunk = find_trunk(base, model, task, fit)
    if isinstance(trunk, str):
        raise _NotCached(trunk)
    return trunk


def _cached_splits(
    trunk: Trunk,
    feeds: Mapping[str, Feed],
    options: TrainingOptions,
    watch: Watch,
    shared: SharedStates | None,
) -> dict[str, CachedFeed]:
    cached: dict[str, CachedFeed] = {}
    room = min(processes.gathered(memory_for_cache(options)))
    for split, feed in feeds.items():
        mixed = precision(options.mixed_precision).name
        if trunk.is_whole_base and split != "train":
            mixed = "no"  # so that validation outputs are those of the finished model
        cached[split] = fill_cache(trunk, feed, room, watch, mixed=mixed, store=options.keep_features, shared=shared)
        room -= cached[split].nbytes if cached[split].in_memory else 0
    return cached


def _described(trunk: Trunk, cached: Sequence[CachedFeed]) -> str:
    texts, size = sum(map(len, cached)), f"{sum(each.nbytes for each in cached) / 1e6:,.1f} MB"
    if all(each.from_disk for each in cached):
        return f"{trunk.extent}: hidden states of {texts:,} texts were cached on disk by an earlier run, {size}"
    if all(each.shared for each in cached):
        return f"{trunk.extent}: hidden states of {texts:,} texts are those of an earlier training, {size}"
    place = "memory" if all(each.in_memory for each in cached) else "a file"
    return f"{trunk.extent} run once over {texts:,} texts; hidden states cached: {size} in {place}"


def memory_for_cache(options: TrainingOptions) -> float:
    """Return the bytes of memory that cached hidden states may take."""
    if options.cache_memory is not None:
        return options.cache_memory * (1 << 30)
    return float(psutil.virtual_memory().available / 4)


def _difference(trunk: Trunk, cached: CachedFeed, mixed: str) -> float:
    """Return the largest difference by which replay changes outputs for a few features, relative to the largest output.

    Each feature is cached and run in a separate batch, so that both sides round equally.
    """

    def outputs(feed: Feed, i: int) -> Any:
        batch = moved_to(feed.batch([i]), trunk.model.device)
        with torch.no_grad(), feed.using([i], batch):
            return trunk.task.outputs(trunk.model, batch)

    few = range(min(4, len(cached)))
    expected = [outputs(cached.feed, i) for i in few]
    alone = [cached.feed.select([i]) for i in few]
    refilled = [fill_cache(trunk, feed, math.inf, Watch(), mixed=mixed) for feed in alone]
    with trunk.installed():
        replayed = [outputs(feed, 0) for feed in refilled]
    return largest_difference(expected, replayed) / max(1.0, largest(expected))
