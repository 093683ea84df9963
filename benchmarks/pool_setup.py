"""What benchmarks/pool.py compares: adapters on disk, PEFT's model with the same adapters, and timing in turns."""

from __future__ import annotations

import copy
import functools
import gc
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from adapterkit import Adapter, Base, Plan, Pool, Registry, run
from adapterkit.io.atomic import version_of

SENTENCES = [
    "The film takes its time, and by the end every slow minute has been worth it for the last scene alone.",
    "I ordered two of these for my parents and neither lasted until the end of the summer, sadly.",
    "Friendly staff, a clean room and a view of the river, though the lift was out of order all week.",
    "The update fixed the crash, but now the battery is empty by noon and the fan never stops.",
    "A warm, funny book about a family that never says what it means, with a dog that always does.",
    "Nobody answered my three letters, and the money came back only after my bank had asked for it.",
    "The soup was cold, the waiter was not, and we will come back for the garden and the bread.",
    "It does what the box says, quietly and without fuss, which is more than I can say of the last one.",
]

AS: dict[str, Any] = {}  # device and dtype of every side, where they aren't the CPU and fp32


def opened(base: Base | str, *args: Any, **options: Any) -> Pool:
    return Pool(base, *args, **options, **AS)


@functools.cache
def cast(base: Base) -> Any:
    """Return the base's model on the device and in the dtype of every side."""
    return copy.deepcopy(base.model).to(**AS) if AS else base.model


def turns(sides: dict[str, Callable[[], Any]], count: int) -> dict[str, dict[str, float]]:
    """Time each side `count` times in turn; return median and quartiles in milliseconds."""
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    try:
        for _ in range(count):
            for name, side in sides.items():
                began = time.perf_counter()
                side()
                times[name].append((time.perf_counter() - began) * 1e3)
    finally:
        gc.enable()
    return {name: spread(values) for name, values in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def raised(function: Callable[[], Any]) -> str:
    """Return the exception that a function raises, in a line."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
    return "raised nothing"


def trained(base: Base, folder: Path, strategy: str, **options: Any) -> Adapter:
    """Train an adapter on a few rows of the demo: only its shape matters here."""
    plan = Plan.resolve(
        {"strategy": strategy, "dataset": "demo:sentiment", "num_train_epochs": 1, "max_train_samples": 32}
        | {"max_eval_samples": 32, "name": "a"}
        | options
    )
    return run(plan, Registry(folder / "registry.json"), base=base).adapter


def variants(adapter: Adapter, count: int, folder: Path) -> list[Path]:
    """Save `count` adapters of the same shape with different weights; return their folders."""
    folders = []
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        moved = {k: t + 0.02 * torch.randn(t.shape, generator=generator) for k, t in adapter.tensors.items()}
        folders.append(folder / f"a{i}")
        folders[-1].mkdir(parents=True)
        for name, data in Adapter(adapter.manifest, moved).files().items():
            (folders[-1] / name).write_bytes(data)
    return folders


def registered(folders: list[Path], folder: Path) -> Registry:
    """Return a registry of the same files: hard links in its store, an index rebuilt from the store."""
    for source in folders:
        version = version_of((source / "adapter.json").read_bytes())
        shutil.copytree(source, folder / "store" / source.name / version, copy_function=os.link)
    registry = Registry(folder / "registry.json")
    registry.rebuild()
    return registry


class Peft:
    """PEFT with the same adapters on a model of its own."""

    def __init__(self, base: Base, folders: list[Path], labels: int = 2) -> None:
        from peft import PeftModel

        self.tokenizer = base.tokenizer
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=labels)
        self.model = PeftModel.from_pretrained(model, folders[0], adapter_name="a0").eval().to(**AS)
        self.names = ["a0"]
        self.times: list[float] = []
        for folder in folders[1:]:
            self.load(folder)

    def load(self, folder: Path) -> None:
        began = time.perf_counter()
        self.model.load_adapter(folder, adapter_name=folder.name)
        if AS:
            self.model.to(**AS)
        self.times.append((time.perf_counter() - began) * 1e3)
        self.names.append(folder.name)

    def batch(self, texts: list[str]) -> Any:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        return batch.to(self.model.device)

    def mixed(self, texts: list[str], names: list[str] | None) -> None:
        """Run one batch, a name for each text; None is the active adapter."""
        with torch.inference_mode():
            self.model(**self.batch(texts), **({} if names is None else {"adapter_names": names}))

    def loop(self, texts: list[str], names: list[str]) -> None:
        batch = self.batch(texts)
        with torch.inference_mode():
            for name in names:
                self.model.set_adapter(name)
                self.model(**batch)


def bare(base: Base, texts: list[str], heads: Any = ()) -> None:
    """Tokenize and run the base, and linear heads on its first token: the unit in which passes are counted."""
    batch = base.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        hidden = cast(base)(**batch.to(cast(base).device))[0]
        for head in heads:
            head(hidden[:, 0]).cpu()
        hidden.cpu()


def texts_of(count: int) -> list[str]:
    return [f"{SENTENCES[i % len(SENTENCES)]} {i}" for i in range(count)]


def larger(base: Base, layers: int, folder: Path) -> Base:
    """Return a base of the same width with more blocks, of random weights: time is what counts."""
    config = transformers.AutoConfig.from_pretrained(base.path, num_hidden_layers=layers)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return Base.load(str(folder))
