"""Adapters of PEFT on tiny bases, compared with ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from adapterkit import Adapter, Base
from adapterkit.convert.peft_import import imported, task_of
from adapterkit.convert.peft_reader import PeftFolder
from adapterkit.tasks import Task
from adapterkit.testing import tiny
from tests.helpers import tolerance
from tests.helpers.adapters import said
from tests.helpers.adapters import task_of as named_task

LABELLED = ("text-classification", "token-classification", "question-answering")


TASKS = (*LABELLED, "text-generation", "text2text-generation")


CLASSIFY = named_task("text-classification")


MIXED = [
    ("bert", "text-classification"),
    ("deberta-v2", "text-classification"),
    ("distilbert", "question-answering"),
    ("llama", "token-classification"),
    ("gpt2", "text-generation"),
    ("t5", "text2text-generation"),
]


def has(family: str, task: str) -> bool:
    """Tell whether transformers has a class for a family and task."""
    auto = getattr(transformers, named_task(task).auto_class or "", None)
    return auto is not None and type(tiny.CONFIGS[family]()) in auto._model_mapping


PAIRS = [(family, task) for family in tiny.CONFIGS for task in TASKS if has(family, task)]


def plain_model(base: str, task: Task) -> Any:
    return getattr(transformers, task.auto_class).from_pretrained(base, **task.config())


def through_peft(base: str, task: Task, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Conv1D's layout
        return peft.PeftModel.from_pretrained(plain_model(base, task), folder).eval()


def check_equal(base: Base, adapter: Adapter, theirs: Any) -> None:
    with adapter.attached(base) as ours:
        name = adapter.task.name
        tolerance.assert_near(said(ours, name), said(theirs, name), tolerance.of_base(base))


def written(adapter: Adapter, folder: Path) -> Path:
    folder.mkdir()
    for name, data in adapter.files().items():
        (folder / name).write_bytes(data)
    return folder


KINDS: dict[str, Callable[..., Any]] = {
    "rslora": lambda **kw: peft.LoraConfig(
        r=4,
        use_rslora=True,
        rank_pattern={"(query|q_proj|q|c_attn|q_lin)": 2},
        alpha_pattern={"1.*(query|q_proj|q|c_attn|q_lin)": 12.0},
        **kw,
    ),
    "lora_bias": lambda **kw: peft.LoraConfig(r=4, lora_bias=True, **kw),
    "dora": lambda **kw: peft.LoraConfig(r=4, use_dora=True, **kw),
    "ia3": lambda **kw: peft.IA3Config(feedforward_modules=kw["target_modules"][:1], **kw),
}


TARGETS = {
    "bert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "t5": ["q", "v"],
    "deberta-v2": ["query_proj", "value_proj"],
}


HEADS = {"t5": ["classification_head"], "deberta-v2": ["pooler", "classifier"]}


def of_peft(base: str, task: Task, folder: Path, config: Any) -> Any:
    """Make an adapter with PEFT, move its weights at random, and save it; return PEFT's model."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(plain_model(base, task), config).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.1)
        model.save_pretrained(folder)
    return model


def config_of(kind: str, family: str, task: Task, **more: Any) -> Any:
    heads = HEADS.get(family) if task.name == "text-classification" else None
    both = {"modules_to_save": heads, "target_modules": TARGETS[family], **more}
    return KINDS[kind](task_type=task.peft_task_type, **both)


def taken(folder: Path, base: Base, task: str | None = None, **options: Any) -> Adapter:
    read = PeftFolder.read(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imported(read, base, task_of(read, task), options)
