"""Tasks and adapters for tests, and the outputs of an adapter or model by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapterkit import Adapter, Base, Patch, Replace
from adapterkit.evaluation.evaluate import _prompts
from adapterkit.evaluation.outputs import outputs
from adapterkit.options import plain
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made

OPTIONS: dict[str, dict[str, Any]] = {
    "text-classification": {
        "text_column_name": ("text",),
        "label_column_name": "label",
        "labels": ("neg", "pos"),
        "problem_type": "single_label_classification",
    },
    "token-classification": {"labels": ("O", "B-X", "I-X")},
    "text-generation": {"text_column_name": ("text",)},
    "fill-mask": {"text_column_name": ("text",)},
}


def task_of(name: str, **options: Any) -> Task:
    return task_class(name)(**{**OPTIONS.get(name, {}), **options})


CLASSIFY = task_of("text-classification")


def said(model: Any, task: str = "text-classification") -> list[Tensor]:
    """Return what a model of a task says of two rows."""
    ids = torch.arange(5, 21).reshape(2, 8)
    ids[:, -1] = tiny.EOS
    ids = torch.stack([ids, ids.flip(0), ids], dim=1) if task == "multiple-choice" else ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task == "text2text-generation":
        batch["decoder_input_ids"] = ids
    with torch.no_grad():
        found = model(**batch)
    return [found[key] for key in ("logits", "start_logits", "end_logits") if key in found]


def without_training(base: Base, task: Task, patches: dict[str, Patch], *, untied: bool = False) -> Adapter:
    """Make an adapter of patches and of a head as it comes, its output embeddings moved where they are untied."""
    model = task.model(base, untied=untied)
    own = dict(model.named_parameters())
    names = base.head_names(model) if task.new_head or untied else []
    head = {name: own[name].detach() + 0.1 * torch.rand_like(own[name]) for name in names}
    about = {"task": {"name": task.name, "options": plain(task)}, "untied": untied, "metrics": {}}
    return Adapter.make(base, model, patches, head, {**about, "strategy": {"name": "lora", "options": {}}})


def full(base: Base, seed: int = 0) -> Adapter:
    """Return an adapter that moves all of the base a little, but few rows of its embeddings."""
    adapter = made.adapter(base, classes(3), "full", seed=seed, std=0.02)
    own, patches = dict(base.model.named_modules()), {}
    for where, patch in adapter.patches(base).items():
        assert isinstance(patch, Replace)
        replaced = dict(patch.replaced)
        if isinstance(own[where], nn.Embedding):
            replaced["weight"] = own[where].weight.detach().clone()
            replaced["weight"][1:5] = patch.replaced["weight"][1:5]
        patches[where] = Replace(replaced)
    return adapter.patched(patches)


def size(adapter: Adapter) -> int:
    return len(adapter.files()["adapter_model.safetensors"])


TEXTS = ["a fine film", "i want my money back now please", "great", "rude staff and awful food, never again", "so so"]


def classes(count: int = 2, kind: str = "single_label_classification") -> Task:
    labels = tuple(f"l{i}" for i in range(count))
    return task_class("text-classification")(
        text_column_name=("text",), label_column_name="label", labels=labels, problem_type=kind
    )


def alone(base: Base, adapter: Adapter, texts: list[str] = TEXTS) -> np.ndarray:
    """Return what the adapter says on a transformers model of its own, text by text, (texts, labels)."""
    task = adapter.task
    with adapter.attached(base) as model:
        return np.stack(outputs(task, model, _prompts(task, task.rows(texts), base), base, batch_size=1))
