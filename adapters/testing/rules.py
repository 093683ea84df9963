"""The contract between a strategy and adapterkit, as functions that pytest and `adapt plugins check` both call.

Each takes a bench and a family of bases, returns its finding in a few words, and raises `Broken` with the difference
where the rule is violated. Equal means equal to the bit, unless a rule allows rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch import nn

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..base.snapshot import Snapshot
from ..errors import OptionError, StrategyError, raised
from ..evaluation.outputs import outputs
from ..features.tokenize import tokenized
from ..modules import blocks
from ..options import build, options, plain
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..pool import Pool
from ..settings import BaseOptions, DataOptions, SavingOptions, TrainingOptions
from ..tasks import SentenceSimilarity, Task, TextRanking
from .bench import (
    FAMILIES,
    ROUNDING,
    TEXTS,
    Bench,
    Broken,
    NotTried,
    adapter_of,
    apart,
    hidden_states,
    near,
    reached,
    task,
    tensors,
)
from .runs import processes, resuming

PAIR = f"{TEXTS[0]}\t{TEXTS[1]}"
OTHERS: tuple[Task, ...] = (
    SentenceSimilarity(text_column_name=("first", "second")),
    TextRanking(query_column_name="query", passage_column_name="passage", label_column_name="label"),
)
"""Tasks of two texts, whose adapters share a batch with those of the bench."""


@dataclass(frozen=True)
class Rule:
    """One rule of the contract."""

    name: str
    test: Callable[[Bench, str], str]
    scope: str = "each"  # family; "one" for a rule that takes seconds, "once" for a rule without a base

    @property
    def summary(self) -> str:
        """The rule in a sentence."""
        return (self.test.__doc__ or "").partition("\n")[0]


def cases(families: Sequence[str] = FAMILIES, *, everywhere: bool = False) -> list[tuple[Rule, str]]:
    """Return the rules with the families to try them on; with `everywhere`, slow rules are tried on every family."""
    each = {"each": families, "one": families if everywhere else families[:1], "once": families[:1]}
    return [(rule, family) for rule in RULES for family in each[rule.scope]]


@dataclass(frozen=True)
class Outcome:
    """The result of a rule on a family."""

    strategy: str
    rule: str
    family: str
    state: Literal["kept", "broken", "skipped"]
    text: str  # the finding; of a broken rule the difference

    def __str__(self) -> str:
        return f"{self.strategy} on {self.family}: {self.rule}: {self.text}"


def tried(rule: Rule, bench: Bench, family: str) -> Outcome:
    """Try a rule on a family; an error of the strategy is part of the outcome."""
    state: Literal["kept", "broken", "skipped"] = "broken"
    try:
        state, text = "kept", rule.test(bench, family)
    except NotTried as error:
        state, text = "skipped", str(error)
    except Broken as error:
        text = str(error)
    except StrategyError as error:
        refused = _refused(bench, family)
        state, text = ("skipped", f"doesn't fit: {refused}") if refused else ("broken", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin can raise anything, SystemExit included
        text = raised(error)
    return Outcome(type(bench.strategy).__name__, rule.name, family, state, text)


def _refused(bench: Bench, family: str) -> str:
    """Return the strategy's reason for not fitting a base; empty where it fits."""
    try:
        bench.strategy.apply(bench.base(family).model)
    except StrategyError as error:
        return str(error)
    except (Exception, SystemExit):
        return ""
    return ""


# ---- on the base


def applying(bench: Bench, family: str) -> str:
    """Applying changes nothing that the base computes: a new adapter starts as the base itself."""
    base = bench.base(family)
    before = hidden_states(base)
    learning = list(bench.strategy.apply(base.model))
    parameters = set(map(id, base.model.parameters()))
    for p in learning:
        if not isinstance(p, nn.Parameter) or id(p) not in parameters:
            raise Broken(f"apply must return parameters of the base, got {type(p).__name__}")
    return near(hidden_states(base), before, ROUNDING, "outputs")


def removing(bench: Bench, family: str) -> str:
    """Removing restores the base, modules and values to the bit, once what learned is put back."""
    base = bench.base(family)
    before, values, snapshot = hidden_states(base), tensors(base.model), Snapshot(base.model)
    learning = {id(p) for p in bench.strategy.apply(base.model)}
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in base.model.parameters():
            if id(p) in learning:  # as if it had learned, so that what is left behind shows
                p.add_(torch.randn(p.shape, generator=draw).to(p) * 0.05)
    bench.strategy.remove(base.model)
    if left := snapshot.changed(base.model):
        raise Broken(f"{len(left)} modules or parameters aren't those of before, first {left[0].strip()}")
    with torch.no_grad():
        for name, p in base.model.named_parameters():
            if id(p) in learning:
                p.copy_(values[name])
    now = tensors(base.model)
    if changed := [name for name in values if not torch.equal(now[name], values[name])]:
        off = apart(now[changed[0]], values[changed[0]])
        raise Broken(f"{len(changed)} tensors are not as before, first {changed[0]}, by {off:.2g} of its largest")
    return near(hidden_states(base), before, 0.0, "outputs")


# ---- trained


def learning(bench: Bench, family: str) -> str:
    """What apply returned learns, and nothing else of the base."""
    seen = bench.seen(family)
    if not seen.end:
        raise seen.error or Broken("a training ended before `patches` was called")
    moved = {name for name, t in seen.end.items() if name not in seen.start or not torch.equal(t, seen.start[name])}
    if others := sorted(moved - seen.returned - seen.changing):
        first = others[0]
        off = apart(seen.end[first], seen.start[first]) if first in seen.start else float("inf")
        raise Broken(
            f"{len(others)} tensors moved that apply didn't return, first {first}, by {off:.2g} of its largest"
        )
    if seen.returned and not moved & seen.returned:
        raise Broken(f"none of {len(seen.returned)} parameters that apply returned moved")
    return f"{len(moved & seen.returned)} of {len(seen.returned)} parameters moved"


def patches(bench: Bench, family: str) -> str:
    """Patches on a bare base give the trained model's outputs."""
    seen = reached(bench, family)
    assert seen.outputs is not None
    base = bench.base(family)
    with _attached(base, seen.patches):
        return near(hidden_states(base), seen.outputs, ROUNDING, "outputs")


def disk(bench: Bench, family: str) -> str:
    """An adapter gives the same outputs after saving and loading, to the bit."""
    adapter, seen = adapter_of(bench, family), bench.seen(family)
    folder = bench.folder / f"{family}-adapter"
    folder.mkdir(exist_ok=True)
    for name, data in adapter.files().items():
        (folder / name).write_bytes(data)
    again, base, other = Adapter.load(folder), bench.base(family), bench.base(family)
    different = [name for name, t in adapter.tensors.items() if not torch.equal(again.tensors[name], t)]
    if different:
        raise Broken(f"{len(different)} tensors were read as others, first {different[0]}")
    with _attached(base, seen.patches):
        wanted = hidden_states(base)
    with again.attached(other):
        text = near(hidden_states(other), wanted, 0.0, "outputs")
    return f"{text}; {len(adapter.files()['adapter_model.safetensors']):,} bytes"


def pool(bench: Bench, family: str) -> str:
    """In a batch with other adapters, each row has the outputs that it has alone."""
    adapter, base = adapter_of(bench, family), bench.base(family)
    beside = {"it": adapter, "again": _moved(adapter), "head": _neighbour(base, adapter, {})}
    if named := list(blocks(base.model).items()):
        name, module = named[-1][0], next((n for n, m in named[-1][1].named_modules() if m._parameters), "")
        path = f"{name}.{module}" if module else name
        parameters = dict(base.model.get_submodule(path).named_parameters(recurse=False))
        beside["block"] = _neighbour(
            base, adapter, {path: Replace({n: p.detach() * 1.1 for n, p in parameters.items()})}
        )
    wanted = {(text, n): logits for n, a in beside.items() for text, logits in zip(TEXTS, _alone(base, a), strict=True)}
    rows = [*wanted, *((TEXTS[0], n) for n in beside)]  # in the last batch, every row has another adapter
    others: dict[str, Adapter] = {}
    if not base.model.config.is_encoder_decoder:
        others = {task.name: _of_task(base, adapter, task.for_base(base)) for task in OTHERS}
    with Pool(base, beside | others) as opened:
        scores = opened.outputs([text for text, _ in wanted], adapter_of_each=[n for _, n in wanted])
        mixed = opened.outputs([TEXTS[0]] * len(beside) + [PAIR] * len(others), adapter_of_each=[*beside, *others])
    alone = torch.from_numpy(np.stack([wanted[row] for row in rows]))
    text = near(torch.from_numpy(np.stack([*scores, *mixed[: len(beside)]])), alone, ROUNDING, "logits")
    for name, values in zip(others, mixed[len(beside) :], strict=True):
        near(torch.from_numpy(values), torch.from_numpy(_alone(base, others[name], [PAIR])[0]), ROUNDING, name)
    return f"{len(rows)} rows of {len(beside)} adapters, {text}"


# ---- the options


def copies(bench: Bench, family: str) -> str:
    """Options can be copied, compared and pickled, as other processes and searches do."""
    strategy = bench.strategy
    if deepcopy(strategy) != strategy or replace(strategy) != strategy:
        raise Broken(f"a copy of {strategy} is another")
    hash(strategy)
    return f"{len(pickle.dumps(strategy))} bytes"


def written(bench: Bench, family: str) -> str:
    """Options survive the manifest, the config file and the command line, whatever their values."""
    kind, count = type(bench.strategy), 0
    reserved = {
        s for section in (BaseOptions, DataOptions, TrainingOptions, SavingOptions) for s in _spellings(section)
    }
    if double := sorted(_spellings(kind) & reserved):
        raise Broken(f"its flag {double[0]} is a flag of every run")
    for strategy in (bench.strategy, *_others(bench.strategy)):
        values = json.loads(json.dumps(plain(strategy)))
        again = build(kind, values)
        if again != strategy:
            raise Broken(f"{strategy} was written as {values} and read as {again}")
        for name, option in options(kind).items():
            value = getattr(strategy, name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            if value is not None and text and option.parse(text) != value:
                raise Broken(f"{option.flag} {text} is read as {option.parse(text)!r}, not as {value!r}")
        count += 1
    return f"{count} sets of {len(options(kind))} options"


RULES = (
    Rule("applying", applying),
    Rule("learning", learning),
    Rule("patches", patches),
    Rule("disk", disk),
    Rule("removing", removing),
    Rule("pool", pool),
    Rule("options", written, "once"),
    Rule("copies", copies, "once"),
    Rule("resuming", resuming, "one"),
    Rule("processes", processes, "one"),
)


# ---- what they share


@contextlib.contextmanager
def _attached(base: Base, patches_by_module: dict[str, Patch]) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for module, patch in patches_by_module.items():
            undo.callback(patch.attach(base.model.get_submodule(module)))
        yield


def _alone(base: Base, adapter: Adapter, texts: Sequence[str] = TEXTS) -> list[Any]:
    """Return the logits of each text, one by one, from a transformers model with the adapter on it."""
    rows = datasets.Dataset.from_dict(dict(adapter.task.rows(texts)))
    features = tokenized(adapter.task, rows, base, labelled=False)
    with adapter.attached(base) as model:
        return outputs(adapter.task, model, features, base, batch_size=1)


def _moved(adapter: Adapter) -> Adapter:
    """Return the adapter with every tensor elsewhere, as another training would have left it."""
    draw = torch.Generator().manual_seed(1)
    other = {n: t + torch.randn(t.shape, generator=draw).to(t) * 0.05 for n, t in adapter.tensors.items()}
    return replace(adapter, tensors=other)


def _neighbour(base: Base, like: Adapter, patches_by_module: dict[str, Patch]) -> Adapter:
    """Return an adapter of the same task with these patches and another head."""
    head = {n: like.tensors[f"base_model.model.{n}"].flip(0) for n in like.manifest["head"]}
    about: dict[str, Any] = {key: like.manifest[key] for key in ("task", "strategy", "metrics") if key in like.manifest}
    model = task().model(base)
    return Adapter.make(base, model, patches_by_module, head, about)


def _of_task(base: Base, like: Adapter, task: Task) -> Adapter:
    """Return an adapter with the same patches and a new head for another task."""
    about: dict[str, Any] = {key: like.manifest[key] for key in ("strategy", "metrics") if key in like.manifest}
    about |= {"task": {"name": task.name, "options": task.recorded()}}
    with torch.random.fork_rng(devices=[]):
        model = task.model(base)
    parameters = dict(model.named_parameters())
    head = {name: parameters[name].detach() for name in base.head_names(model)}
    return Adapter.make(base, model, like.patches(base), head, about)


def _spellings(kind: type[Any]) -> set[str]:
    """Return the flags of a section, but those of the rate, which is the strategy's."""
    section = options(kind).values()
    return {s for o in section for s in (o.flag, *o.aliases)} - {"--learning-rate", "--lr"}


def _others(strategy: Any) -> Iterator[Any]:
    """Yield the strategy with one option or another changed, as far as it takes the value."""
    for field in dataclasses.fields(strategy):
        option = options(type(strategy))[field.name]
        value = getattr(strategy, field.name)
        tries: list[Any] = [None] if option.optional else []
        if isinstance(option.type, tuple):
            tries += option.type
        elif option.type is bool:
            tries += [True, False]
        elif option.type in (int, float):
            tries += [1, 2, 0.5] if option.type is float else [1, 2]
            tries += [value * 3] if value else []
        else:
            tries += [("a", "b")] if option.type is tuple else ["a"]
        for other in tries:
            with contextlib.suppress(OptionError, StrategyError, ValueError):
                yield replace(strategy, **{field.name: other})
