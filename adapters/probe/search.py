"""Fit a linear probe to convergence on cached hidden states, and choose its layers and pooling by validation.

Layers and poolings are compared by ridge regression, whose solution is in closed form; for the best, the task's
loss with an L2 penalty is minimised by scipy's L-BFGS, from the strongest penalty to the weakest, each started from the
previous solution. Features are standardised; the final weights include the standardisation.

For few texts nothing is chosen: layers, pooling and penalty are fixed (`probe/few_texts.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.pooling import POOLINGS, pooled
from ..base.tracing import record
from ..errors import TrainingError
from ..execution import processes
from ..features.cache import digest
from ..features.feed import Feed
from ..features.hidden_states import disk_folder
from ..features.shared_states import SharedStates
from ..metrics.bootstrap import mean_of
from ..modules import blocks
from ..watch import Watch
from . import cross_validation, few_texts
from .examples import Examples, Reader, concatenated
from .model import Form, ProbeHead, ProbeModel, layers_of
from .solver import COARSE, FINE, MEDIUM, PENALTIES, Judge, ScoredModel, Solved, Weights, fit

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task

_FINALISTS = 3  # number of forms fitted after the comparison by ridge regression
_SCREENED = 1 << 28  # bytes of a split's vectors, over all forms, in that comparison


@dataclass(frozen=True)
class SolverOptions:
    """Options of a run that concern a linear probe."""

    mixed: str = "no"  # precision in which the base runs over the training rows
    smoothing: float = 0.0  # label smoothing factor
    rows: int | None = None  # training rows of the run, where those to fit are a part of them
    memory: float = math.inf  # bytes of memory for vectors; if they exceed it, they are stored on disk
    watch: Watch = field(default_factory=Watch)
    shared: SharedStates | None = None  # vectors of earlier probes on the same base and rows


@dataclass(frozen=True)
class Probed:
    """A task's model with a fitted probe, and its predictions for the rows that measure it."""

    model: ProbeModel
    loss: float  # on the training rows, the penalty included
    predictions: list[Any]
    split: str = "validation"  # of these rows; "cross-validation": training rows, by probes fitted without them
    repeats: list[list[Any]] = field(default_factory=list)  # predictions of further repetitions of cross-validation
    notes: tuple[str, ...] = ()  # on the predictions


def applies(base: Base, task: Task) -> bool:
    """Return whether a linear probe supports the task on the base."""
    encodes = not base.model.config.is_encoder_decoder
    return encodes and task.new_head and task.probe_unit is not None


def initialise(
    base: Base,
    model: Any,
    task: Task,
    features: Mapping[str, Dataset],
    data: Mapping[str, Dataset],
    solver: SolverOptions,
    *,
    scale: float = 1.0,
    base_trained: bool = False,
) -> Weights | str:
    """Set the last linear layer of a model's head to `scale` times a linear probe, or return why it can't be fitted.

    Validation rows choose its penalty; without them it is fixed, as for few texts. Where the base was trained on the
    same rows already, a cross-validation would measure rows that it has learned, and there is none.

    Fine-tuning then starts from a head that fits the base, and doesn't distort features to fit a random one (Kumar et
    al. 2022, arXiv:2202.10054).
    """
    if task.probe_unit is None:
        return f"{task.name} trains no new head"
    by_token = task.probe_unit == "token"
    collate = task.collate(base.tokenizer, model)
    feeds = {split: Feed(rows, collate, base.modality) for split, rows in features.items()}
    last = _last_linear(base, model, feeds["train"], task)
    if last is None:
        return f"the head of a {type(model).__name__} doesn't end in a linear layer over each {task.probe_unit}"
    if last.out_features != (outputs := task.probe_outputs(model.config)):
        return f"the last linear layer of a {type(model).__name__} has {last.out_features} outputs, expected {outputs}"

    def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        recorded, _ = record(lambda: model(**batch), inputs={"x": last})
        return recorded

    readers = _readers(base, feeds, last.in_features, task, solver)
    for reader in readers.values():
        _read(
            reader,
            range(len(reader.feed)),
            inputs,
            solver,
            (base.fingerprint, base.tokenizer_digest, type(model).__name__, "head"),
        )
    head = ProbeHead(task, Form((0,), None if by_token else "mean"), model.config, width=last.in_features)
    train = _labelled(readers["train"].examples("x"), by_token)
    if "validation" in readers:
        judge, validation = Judge(task, features["validation"], data["validation"]), readers["validation"].examples("x")
        solution: Weights = processes.from_main(
            lambda: fit(task, head, train, validation, judge, smoothing=solver.smoothing, tolerance=COARSE)
        )
    else:
        folds = None if base_trained else cross_validation.folds_of(train, features["train"])
        fitted = processes.from_main(
            lambda: cross_validation.fit(task, head, train, folds, solver.smoothing, one_scale=base_trained)
        )
        if folds is not None:
            every = [_predictions(head, train, scores, features["train"], data["train"]) for scores in fitted.held_out]
            value = mean_of([task.metrics(predictions, data["train"]) for predictions in every]).values[task.best]
            solver.watch.note("", f"{task.best} {value:.3f} before training, by cross-validation in {folds.describe()}")
        solution = fitted
    with torch.no_grad():
        last.weight.copy_(scale * solution.weight)
        if last.bias is not None:
            last.bias.copy_(scale * solution.bias)
    return solution


def _last_linear(base: Base, model: Any, feed: Feed, task: Task) -> nn.Linear | None:
    """Return the linear layer of the head that is called last, if its input is a vector for each text or token."""
    in_base = {id(m) for m in base.model.modules()}
    layers = {m: m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in in_base}
    batch = {k: v.to(base.model.device) for k, v in feed.batch([0]).items() if k not in task.label_names}
    with torch.no_grad():
        recorded, _ = record(lambda: model(**batch), inputs=layers)
    last, x = next(reversed(recorded.items()), (None, None))
    return last if x is not None and x.ndim == (3 if task.probe_unit == "token" else 2) else None


def probe(
    base: Base,
    task: Task,
    features: Mapping[str, Dataset],
    data: Mapping[str, Dataset],
    solver: SolverOptions,
) -> Probed:
    """Return the task's model with a fitted probe: of few texts a fixed one, else the one best on the validation rows.

    Features of all splits have labels. The base runs once over each text, over training rows in the precision of
    `solver`; forms are compared on a part of large splits. Vectors that exceed its memory are stored on disk. Raises
    `TrainingError` where a choice needs validation rows and there are none.
    """
    collate = task.collate(base.tokenizer, base.model)
    feeds = {split: Feed(rows, collate, base.modality) for split, rows in features.items()}
    if few_texts.applies(task, solver.rows or len(feeds["train"])) or (few_texts.supports(task) and len(feeds) == 1):
        return _of_few_texts(base, task, features, data, solver, feeds)
    if len(feeds) == 1:
        raise TrainingError(
            f"a linear probe for {task.name} is chosen by validation rows, and there are none: "
            "--validation-split-percentage must be >= 1"
        )
    layers = tuple(range(len(blocks(base.model)) + 1))
    by_token = task.probe_unit == "token"
    forms = [Form((k,), p) for k in layers for p in ((None,) if by_token else POOLINGS)]
    width = base.model.config.hidden_size
    finalists = 1 if by_token else _FINALISTS
    readers = _readers(base, feeds, width * finalists, task, solver)
    some = {split: _some(feed, by_token, _SCREENED // (4 * width * len(forms))) for split, feed in feeds.items()}
    for split, reader in readers.items():
        _read(reader, some[split], _run_base(base, forms), solver, (base.fingerprint, base.tokenizer_digest, *forms))

    def score(form: Form) -> float:
        return _screened(
            task, *(_labelled(readers[s].examples(form, some[s]), by_token) for s in ("train", "validation"))
        )

    chosen = processes.from_main(lambda: sorted(forms, key=score, reverse=True)[:finalists])
    solver.watch.note("probe", f"best of {len(forms)} inputs by ridge regression: " + "; ".join(map(str, chosen)))
    for reader in readers.values():
        reader.select(chosen)
        reader.read(range(len(reader.feed)), _run_base(base, chosen))

    judge = Judge(task, features["validation"], data["validation"])

    def examples_of(split: str, form: Form) -> Examples:
        return concatenated([readers[split].examples(Form((k,), form.pooling)) for k in form.layers])

    def fit_form(form: Form, penalties: Sequence[float] | None, start: Solved | None = None) -> tuple[Form, Solved]:
        head = ProbeModel(base, task, form).probe
        train, validation = _labelled(examples_of("train", form), by_token), examples_of("validation", form)
        solution = fit(
            task,
            head,
            train,
            validation,
            judge,
            smoothing=solver.smoothing,
            tolerance=MEDIUM if start is None else FINE,
            penalties=penalties,
            start=start,
        )
        solver.watch.note("", f"{form}: {task.best} {solution.value:.4f} at an L2 penalty of {solution.penalty:g}")
        return form, solution

    def best() -> tuple[Form, Solved]:
        pick = min if task.lower_is_better else max
        fitted = [fit_form(chosen[0], None)]
        near = _neighbours(fitted[0][1].penalty)
        fitted += [fit_form(form, near) for form in chosen[1:]]
        form, alone = pick(fitted, key=lambda one: one[1].value)
        layers = tuple(sorted(k for f in chosen if f.pooling == form.pooling for k in f.layers))
        if len(layers) > 1:
            fitted.append(fit_form(Form(layers, form.pooling), _neighbours(alone.penalty)))
        form, nearly = pick(fitted, key=lambda one: one[1].value)
        return fit_form(form, [nearly.penalty], nearly)

    form, weights = processes.from_main(best)
    note = processes.from_main(judge.optimism)
    model = _solved_model(base, task, form, weights)
    examples = examples_of("validation", form)
    scores = torch.addmm(weights.bias, examples.x, weights.weight.T)
    predictions = _predictions(model.probe, examples, scores, features["validation"], data["validation"])
    return Probed(model, weights.loss, predictions, notes=(note,))


def _neighbours(penalty: float) -> Sequence[float]:
    """Return one of `PENALTIES` with those beside it."""
    k = PENALTIES.index(penalty)
    return PENALTIES[max(0, k - 1) : k + 2]


def _solved_model(base: Base, task: Task, form: Form, weights: Weights) -> ProbeModel:
    model = ProbeModel(base, task, form)
    with torch.no_grad():
        model.probe.score.weight.copy_(weights.weight)
        model.probe.score.bias.copy_(weights.bias)
    return model


def _predictions(head: ProbeHead, examples: Examples, scores: Tensor, features: Dataset, data: Dataset) -> list[Any]:
    with torch.no_grad():
        outputs = head.task.outputs(ScoredModel(head, examples, scores), {})
    return head.task.predictions(outputs, features, data)


def _of_few_texts(
    base: Base,
    task: Task,
    features: Mapping[str, Dataset],
    data: Mapping[str, Dataset],
    solver: SolverOptions,
    feeds: Mapping[str, Feed],
) -> Probed:
    """Do as `probe`, but choose nothing; without validation rows, cross-validate."""
    form = few_texts.form(len(blocks(base.model)))
    single = [Form((k,), form.pooling) for k in form.layers]
    readers = _readers(base, feeds, base.model.config.hidden_size * len(single), task, solver)
    for reader in readers.values():
        _read(
            reader,
            range(len(reader.feed)),
            _run_base(base, single),
            solver,
            (base.fingerprint, base.tokenizer_digest, *single),
        )
    examples = {split: concatenated([reader.examples(f) for f in single]) for split, reader in readers.items()}
    head = ProbeModel(base, task, form).probe
    folds = None if "validation" in feeds else cross_validation.folds_of(examples["train"], features["train"])
    fitted = processes.from_main(lambda: cross_validation.fit(task, head, examples["train"], folds, solver.smoothing))
    model = _solved_model(base, task, form, fitted)
    split = "validation" if "validation" in feeds else "train"
    of = examples[split]
    every = fitted.held_out or [torch.addmm(fitted.bias, of.x, fitted.weight.T)]
    if folds is not None:
        solver.watch.note("", f"cross-validation in {folds.describe()}; the probe is fitted to all training rows")
    predictions = [_predictions(model.probe, of, scores, features[split], data[split]) for scores in every]
    return Probed(model, fitted.loss, predictions[0], "cross-validation" if fitted.held_out else split, predictions[1:])


def most_cached(base: Base, units: int, by_token: bool) -> int:
    """Return the peak bytes of cached vectors of `units` texts or tokens: of all forms first, then of the best."""
    width, depth = int(base.model.config.hidden_size), len(blocks(base.model)) + 1
    forms, finalists = (depth, 1) if by_token else (depth * len(POOLINGS), _FINALISTS)
    return max(min(units * width * 4 * forms, _SCREENED), units * width * 4 * (1 if by_token else 2 * finalists))


def _some(feed: Feed, by_token: bool, most: int) -> list[int]:
    """Return a random sample of features with about `most` vectors."""
    order = np.random.default_rng(0).permutation(len(feed))
    units = np.cumsum([count * (longest if by_token else 1) for count, longest in (feed.shapes[i] for i in order)])
    return sorted(order[: int(np.searchsorted(units, most)) + 1].tolist())


def _readers(
    base: Base, feeds: Mapping[str, Feed], width: int, task: Task, solver: SolverOptions
) -> dict[str, Reader[Any]]:
    """Return readers for the splits, which store `width` numbers for each text or token in memory, or else on disk.

    Raises `OSError` if the disk lacks the space.
    """
    readers = {}
    for split, feed in feeds.items():
        mixed = solver.mixed if split == "train" else "no"
        readers[split] = Reader[Any](
            feed,
            base.model.device,
            by_token=task.probe_unit == "token",
            label_names=task.label_names,
            mixed=mixed,
            watch=solver.watch,
        )
    size = sum(int(reader.counts.sum()) for reader in readers.values()) * width * 4
    if size > solver.memory:
        for reader in readers.values():
            reader.folder = disk_folder(size)
    return readers


def _read(
    reader: Reader[Any],
    features: Sequence[int],
    run: Callable[[dict[str, Tensor]], Mapping[Any, Tensor]],
    solver: SolverOptions,
    key: tuple[Any, ...],
) -> None:
    """Have a reader run `run` over features, or take the vectors that an earlier probe of the same base computed.

    Those are taken where they equal what `run` returns for the first batch: a strategy may change the base's outputs.
    """
    shared = solver.shared
    if shared is None or reader.folder is not None or processes.count() > 1:
        reader.read(features, run)
        return
    key = (*key, digest(reader.feed.features, reader.feed.modality.columns), tuple(features), reader.mixed)
    began = time.perf_counter()
    vectors = shared.get(key)
    if vectors is not None and reader.take(features, run, vectors):
        shared.reused(key, time.perf_counter() - began)
        return
    reader.read(features, run)
    shared.put(key, {form: states.values for form, states in reader.states.items()}, time.perf_counter() - began)


def _run_base(base: Base, forms: Sequence[Form]) -> Callable[[dict[str, Tensor]], dict[Form, Tensor]]:
    """Return a function that runs the base over a batch and returns the vectors of each form."""
    layers = frozenset(k for form in forms for k in form.layers)

    def run(batch: dict[str, Tensor]) -> dict[Form, Tensor]:
        flat, _ = base.modality.flat(batch)
        hidden = layers_of(base.model, flat, layers)
        mask = base.modality.mask(flat).long()
        return {
            f: f.read(hidden) if f.pooling is None else pooled(f.read(hidden).float(), mask, f.pooling) for f in forms
        }

    return run


def _labelled(e: Examples, by_token: bool) -> Examples:
    """Return the tokens that have a label, where each token can have one."""
    return e.with_labels() if by_token and "labels" in e.labels else e


def _screened(task: Task, train: Examples, validation: Examples) -> float:
    """Return the share of the variance of the validation labels that ridge regression explains."""
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False).clamp(min=1e-6)
    x, other = ((e.x - mean) / scale for e in (train, validation))
    y, truth = (_targets(task, e) for e in (train, validation))
    level = y.mean(0)
    gram, product = ((x.T @ right / len(x)).double() for right in (x, y - level))
    spread = ((truth - level) ** 2).sum(0).clamp(min=1e-6)
    explained = []
    for penalty in (1e-2, 1e-1, 1.0, 10.0, 100.0):
        factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
        guess = other @ torch.cholesky_solve(product, factor).float() + level
        explained.append(float((1 - ((truth - guess) ** 2).sum(0) / spread).mean()))
    return max(explained)


def _targets(task: Task, e: Examples) -> Tensor:
    """Return the labels as numbers, (vectors, outputs)."""
    targets = task.probe_targets(e.labels, e.counts.tolist(), e.choices)
    return targets if e.real is None else targets[e.real.flatten()]
