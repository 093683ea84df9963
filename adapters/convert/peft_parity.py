"""Compare the logits of an imported adapter with those of PEFT on a copy of the base."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import peft
import torch
from torch import Tensor

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..base.tracing import forward_arguments
from ..errors import AdapterError
from ..tasks import Task
from .peft_reader import PeftFolder

NEAR = 100
"""The largest difference to PEFT's logits, in roundings of the largest logit."""


def check_equal(folder: PeftFolder, base: Base, adapter: Adapter) -> None:
    """Raise `AdapterError` where the adapter's logits differ from PEFT's on a copy of the base."""
    batch = _some_rows(base, adapter.task)
    with adapter.attached(base) as model:
        ours = _logits(model, batch)
    theirs = _logits(_peft_model(folder, base, adapter.task), batch)
    largest = max(float(t.abs().max()) for t in theirs.values())
    apart = max(float((ours[key] - theirs[key]).abs().max()) for key in theirs)
    if not apart <= NEAR * torch.finfo(base.model.dtype).eps * max(1.0, largest):  # a NaN is no less
        raise AdapterError(
            f"'{folder.source}': through PEFT, base '{base.name}' gives other logits, by {apart:.2g} of {largest:.2g}; "
            "the adapter isn't taken in"
        )


def _some_rows(base: Base, task: Task) -> dict[str, Tensor]:
    """Return two texts of random tokens as the task's model takes them; one where the tokenizer can't pad."""
    count = 1 if base.tokenizer.pad_token_id is None else 2
    at_random = torch.Generator().manual_seed(0)
    ids = torch.randint(len(base.tokenizer), (count, 12), generator=at_random)
    texts = [base.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    features = base.tokenizer(texts, padding=count > 1, truncation=True, max_length=16, return_tensors="pt")
    batch = forward_arguments(base.model, {key: features[key] for key in ("input_ids", "attention_mask")})
    if not task.generates:  # a head on an encoder-decoder makes the decoder's inputs itself
        batch.pop("decoder_input_ids", None)
    if task.has_choices:
        batch = {key: torch.stack([value, value], 1) for key, value in batch.items() if isinstance(value, Tensor)}
    tensors = {key: value.to(base.model.device) for key, value in batch.items() if isinstance(value, Tensor)}
    return dict(task.model_inputs(tensors))


def _logits(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        outputs = model(**batch)
    return {key: value.float().cpu() for key, value in outputs.items() if key.endswith("logits")}


def _peft_model(folder: PeftFolder, base: Base, task: Task) -> Any:
    """Return PEFT's own model of a folder on a copy of the base, built only from what was checked.

    Raises `AdapterError` where PEFT doesn't take it.
    """
    config_class = {"LORA": peft.LoraConfig, "IA3": peft.IA3Config}[folder.config["peft_type"]]
    settings = {key: value for key, value in folder.config.items() if key != "peft_type"}
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # PEFT asks the model for it by this name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            fresh = task.unshared_model(base)
            # the folder may name the base by its Hub id, and this base is one of a local folder
            warnings.filterwarnings("ignore", message="The PEFT config's `base_model_name_or_path` was renamed")
            model = peft.get_peft_model(fresh.to(base.model.device), config_class(**settings))
        left = peft.set_peft_model_state_dict(model, dict(folder.tensors)).unexpected_keys
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise AdapterError(f"'{folder.source}': PEFT doesn't take it: {' '.join(str(error).split())[:200]}") from error
    if left:
        raise AdapterError(f"'{folder.source}': PEFT has no place for {len(left)} of its tensors, first '{left[0]}'")
    return model.eval()
