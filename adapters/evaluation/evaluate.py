"""What a task model says of rows, and how good that is."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import DataError
from ..features.feed import Feed
from ..metrics import Metrics
from ..runtime import processes
from ..tasks import Task
from ..tasks.columns import gathered, require
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Evaluation:
    """An adapter's metrics on labelled rows, an answer for each row, and tables such as a confusion matrix."""

    metrics: Metrics
    answers: list[dict[str, Any]]
    tables: dict[str, Any]


def metrics_plain(metrics: Metrics) -> dict[str, Any]:
    """Return metrics as JSON values: each by name, `n`, and `intervals` by name."""
    intervals = {name: list(interval) for name, interval in metrics.intervals.items()}
    return {**metrics.values, "n": metrics.n, "intervals": intervals}


def encode(task: Task, data: Dataset, base: Base, *, labelled: bool, watch: Watch | None = None) -> Dataset:
    """Return the features of `data`, tokenised once and cached by content, task and tokenizer.

    Raises `DataError` where a column that the task reads isn't there, and `TaskError` where it reads none.
    """
    import datasets

    task.check_named()
    require(data.column_names, *task.asked)
    datasets.disable_progress_bars()  # ours is drawn instead
    watch = watch or Watch()
    key = f"{data._fingerprint} {task!r} {base.tokenizer_digest} {labelled}"
    with watch.bar("tokenising", len(data)) as bar:

        def features(rows: Any, indices: list[int]) -> dict[str, Any]:
            found = task.encode(rows, base.tokenizer, labelled=labelled)
            if "row" in found:  # from its place in the batch to its place in the data
                found["row"] = [indices[i] for i in found["row"]]
            bar.advance(len(indices))
            return found

        return data.map(
            features,
            batched=True,
            with_indices=True,
            remove_columns=data.column_names,
            new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        )


def outputs(
    task: Task,
    model: Any,
    features: Dataset | Feed,
    base: Base,
    *,
    batch_size: int,
    watch: Watch | None = None,
    deal: bool = False,
) -> list[Any]:
    """Return what the model says of each feature, in order; features of like length share a batch.

    With `deal`, each process asks the model about some of the batches, and all of them get all answers.
    """

    def say(batch: dict[str, Any]) -> list[Any]:
        return task.outputs(model, batch)

    feed = features if isinstance(features, Feed) else Feed(features, task.collate(base.tokenizer, model))
    return _batched(model, feed, say, batch_size=batch_size, watch=watch, deal=deal)


def generate(
    task: Task,
    model: Any,
    prompts: Dataset,
    base: Base,
    *,
    batch_size: int,
    watch: Watch | None = None,
    deal: bool = False,
) -> list[str]:
    """Return the text that the model generates for each prompt, in order; `deal` as in `outputs`."""

    def say(batch: dict[str, Any]) -> list[Any]:
        check_room(base, task, batch, {})
        return task.generate(model, batch, base.tokenizer)

    feed = Feed(prompts, task.collate(base.tokenizer, model))
    return _batched(model, feed, say, batch_size=batch_size, watch=watch, deal=deal)


def check_room(base: Base, task: Task, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> None:
    """Raise `DataError` where a prompt and what is to be generated after it are more than a causal base takes."""
    most, tokens = base.max_length, batch["input_ids"].shape[-1]
    if most is None:
        return
    room = 0 if base.model.config.is_encoder_decoder else {**task.generation, **options}["max_new_tokens"]
    if tokens + room > most:
        wanted = f" and {room} new ones" if room else ""
        raise DataError(f"a text of {tokens} tokens{wanted} is more than the {most} that the base takes")


def apart(a: Any, b: Any) -> float:
    """Return the largest difference between two nests of numbers; NaN where one of them holds one."""
    if isinstance(a, list | tuple):
        found = [apart(x, y) for x, y in zip(a, b, strict=True)]
        return float(np.max(found)) if found else 0.0
    difference = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    return float(difference.max()) if difference.size else 0.0


def _turns(shapes: Sequence[tuple[int, int]], size: int) -> Iterator[list[int]]:
    """Yield features of like length together, of as many texts each."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i], i))
    start = 0
    while start < len(order):
        chosen = order[start : start + size]
        chosen = [i for i in chosen if shapes[i][0] == shapes[chosen[0]][0]]
        start += len(chosen)
        yield chosen


def _batched(model: Any, feed: Feed, say: Any, *, batch_size: int, watch: Watch | None, deal: bool) -> list[Any]:
    found: dict[int, Any] = {}
    turns = list(_turns(feed.shapes, batch_size))
    mine = turns[processes.index() :: processes.count()] if deal else turns
    was_training = model.training
    model.eval()
    still = torch.inference_mode() if deal or processes.count() == 1 else torch.no_grad()
    try:
        with still, (watch or Watch()).bar("evaluating", sum(map(len, mine))) as bar:
            for chosen in mine:
                batch = {key: value.to(model.device) for key, value in feed.batch(chosen).items()}
                with feed.using(chosen, batch):
                    said = say(batch)
                for i, value in zip(chosen, said, strict=True):
                    found[i] = value
                bar.advance(len(chosen))
    finally:
        model.train(was_training)
    for part in processes.gathered(found) if deal else []:
        found |= part
    return [found[i] for i in range(len(feed))]


def evaluate(
    base: Base,
    adapter: Adapter,
    data: Dataset,
    *,
    batch_size: int = 64,
    watch: Watch | None = None,
    deal: bool = False,
) -> Evaluation:
    """Measure an adapter on labelled rows; a task that generates is measured on what it generates, too.

    With `deal`, the processes of a run share the work; each of them has to call this.
    """
    task, base = adapter.task, adapter.on(base)
    with processes.first_of_node_first() if deal else contextlib.nullcontext():
        features = encode(task, data, base, labelled=False, watch=watch)
    _check_some(features)
    with adapter.attached(base) as model:
        said = outputs(task, model, features, base, batch_size=batch_size, watch=watch, deal=deal)
        predictions = task.predictions(said, features, data)
        metrics = task.metrics(predictions, data)
        references = task.references(data)
        if not task.generates:
            answers = task.answers(predictions, data, base.tokenizer) if task.new_head else []
            return Evaluation(metrics, answers, task.tables(predictions, data))
        if references is None:
            return Evaluation(metrics, [], {})
        prompts = _prompts(task, data[:], base)
        texts = generate(task, model, prompts, base, batch_size=batch_size, watch=watch, deal=deal)
    from ..metrics import text

    said_well = text(texts, references)
    both = Metrics(metrics.values | said_well.values, metrics.intervals | said_well.intervals, said_well.n)
    return Evaluation(both, [{"generated_text": t} for t in texts], {})


def predict(
    base: Base, adapter: Adapter, texts: Sequence[Any], *, batch_size: int = 64, watch: Watch | None = None
) -> list[dict[str, Any]]:
    """Return one answer for each text, such as {"label": "positive", "score": 0.98}.

    A text with several fields (a pair; question and context) has them separated by tabs, or is a dict of columns.
    """
    import datasets

    texts = list(texts)
    if not texts:
        return []
    task, base = adapter.task, adapter.on(base)
    rows = gathered(task, texts).values
    features = _prompts(task, rows, base)
    with adapter.attached(base) as model:
        if task.generates:
            said = generate(task, model, features, base, batch_size=batch_size, watch=watch)
            return [{"generated_text": text} for text in said]
        data = datasets.Dataset.from_dict(dict(rows))
        said = outputs(task, model, features, base, batch_size=batch_size, watch=watch)
        return task.answers(task.predictions(said, features, data), data, base.tokenizer)


def _prompts(task: Task, rows: Any, base: Base) -> Dataset:
    import datasets

    return datasets.Dataset.from_dict(dict(task.prompts(rows, base.tokenizer)))


def _check_some(features: Dataset) -> None:
    if len(features) == 0:
        raise DataError("nothing to measure: the rows hold no text")
