"""The options of a run that belong to no strategy and no task, named as transformers names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from .errors import OptionError

RUN_FILE = "run.yaml"
"""The file that holds a run's options, beside its checkpoints and its adapter."""
AS_IS = "as-is"
"""How an adapter is saved that isn't encoded."""
_ENCODING = re.compile("exact|bf16|1bit|rank:[1-9][0-9]{0,3}")


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """Which pretrained model to stand on."""

    base: Annotated[str, "a folder, a Hub id, minilm, or a file of word vectors", "--model-name-or-path"] = "minilm"
    revision: Annotated[str | None, "branch, tag or commit of a Hub id", "--model-revision"] = None
    trust_remote_code: Annotated[bool, "run the checkpoint's own Python code"] = False
    quantization: Annotated[
        Literal["no", "4bit", "8bit"], "hold the base's linear maps in so many bits (bitsandbytes); these can't learn"
    ] = "no"
    added_tokens: Annotated[
        tuple[str, ...], "tokens that the tokenizer is to know, too; of the embeddings, their rows learn"
    ] = ()


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the rows come from."""

    dataset: Annotated[
        str | None, "demo:NAME, a folder, a Hub id, or one file to cut into splits", "--data", "--dataset-name"
    ] = None
    dataset_config_name: Annotated[str | None, "which part of a data set of the Hub", "--dataset-config"] = None
    train_file: Annotated[str | None, "rows to learn from: csv, tsv, jsonl, json, parquet, arrow, conll or txt"] = None
    validation_file: Annotated[str | None, "rows to choose the best epoch by", "--eval-file", "--dev-file"] = None
    test_file: Annotated[str | None, "rows to report on at the end"] = None
    validation_split_percentage: Annotated[int, "share of the training rows cut off where no validation is given"] = 10
    max_train_samples: Annotated[int | None, "use no more training rows than this, drawn at random"] = None
    max_eval_samples: Annotated[int | None, "use no more validation and test rows than this, drawn at random"] = None
    skip_bad_rows: Annotated[bool, "leave out rows that can't be read, and say how many"] = False
    tag_column: Annotated[
        int | None, "column of the tags in a CoNLL file, from 0, or from the end below 0; by default the last"
    ] = None

    def __post_init__(self) -> None:
        if not 1 <= self.validation_split_percentage <= 50:
            raise OptionError(f"--validation-split-percentage={self.validation_split_percentage} is not within 1 to 50")
        at_least(self, 1, "max_train_samples", "max_eval_samples")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, in what steps and how carefully to learn."""

    num_train_epochs: Annotated[int, "passes over the training rows; the best one is kept", "--epochs"] = 5
    per_device_train_batch_size: Annotated[int, "rows a step", "--batch-size", "--train-batch-size"] = 16
    per_device_eval_batch_size: Annotated[int, "rows a step when nothing is learned", "--eval-batch-size"] = 64
    gradient_accumulation_steps: Annotated[int, "batches a step of the optimizer"] = 1
    warmup_ratio: Annotated[float, "share of the steps in which the rate rises"] = 0.1
    lr_scheduler_type: Annotated[
        Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"], "how the rate falls after that"
    ] = "linear"
    weight_decay: Annotated[float, "AdamW's, on what isn't a bias or a norm"] = 0.0
    layer_lr_decay: Annotated[float, "each block's rate is this times that of the block above; 1 for one rate"] = 1.0
    label_smoothing_factor: Annotated[float, "share of the label's weight that is spread over all labels"] = 0.0
    early_stopping_patience: Annotated[int | None, "stop after this many epochs without a better one"] = None
    max_grad_norm: Annotated[float, "clip the gradient at this norm; 0 for never"] = 1.0
    head: Annotated[
        Literal["auto", "probe", "model"],
        "auto is a probe, solved on the frozen base, where the strategy leaves that alone; model is transformers' own",
    ] = "auto"
    head_init: Annotated[
        Literal["auto", "random", "probe"],
        "what transformers' head starts from: probe solves its last layer on the base first, auto from three labels on",
    ] = "auto"
    group_by_length: Annotated[bool, "put rows of like length into a batch"] = True
    max_tokens_per_batch: Annotated[int | None, "fewer rows a step where padded they hold more tokens"] = None
    mixed_precision: Annotated[
        Literal["auto", "no", "bf16", "fp16"], "autocast; auto is bf16 where the hardware has it, else no (fp32)"
    ] = "auto"
    cache_trunk: Annotated[
        Literal["auto", "on", "off"], "run what lies below all that learns once, and keep what it says"
    ] = "auto"
    cache_memory: Annotated[
        float | None, "GiB of memory for what is kept, beyond that a file; by default a quarter of what is free"
    ] = None
    keep_features: Annotated[bool, "keep what the trunk said on disk for later runs on the same base and data"] = False
    gradient_checkpointing: Annotated[bool, "compute activations again instead of keeping them"] = False
    torch_compile: Annotated[bool, "compile the model; pays for long trainings alone"] = False
    seed: Annotated[int, "of the head's first values, the order of rows, and dropout"] = 42
    save_as: Annotated[
        str, "how replaced tensors are saved: as-is, exact, bf16, 1bit or rank:R (see docs/how-to/compress-adapters.md)"
    ] = AS_IS

    def __post_init__(self) -> None:
        if self.save_as != AS_IS:
            check_encoding(self.save_as)
        at_least(self, 1, "num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size")
        at_least(self, 1, "gradient_accumulation_steps", "early_stopping_patience")
        at_least(self, 0, "warmup_ratio", "weight_decay", "max_grad_norm", "seed")
        at_least(self, 0, "layer_lr_decay", "label_smoothing_factor", "cache_memory")
        at_least(self, 1, "max_tokens_per_batch")
        if self.seed >= 1 << 32:
            raise OptionError(f"--seed={self.seed}, but it is below {1 << 32}")
        for name in ("warmup_ratio", "layer_lr_decay", "label_smoothing_factor"):
            if getattr(self, name) > 1:
                raise OptionError(f"--{name.replace('_', '-')}={getattr(self, name)} is not within 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SavingOptions:
    """When a run is kept so that it can go on after it died, and whom it tells of itself."""

    save_steps: Annotated[int | None, "keep a checkpoint every so many steps of the optimizer"] = None
    save_minutes: Annotated[float, "or every so many minutes; at each epoch's end anyway"] = 10
    save_total_limit: Annotated[int, "checkpoints that are kept until the adapter is saved"] = 2
    overwrite: Annotated[bool, "replace an adapter of the same name that is for another task"] = False
    report_to: Annotated[tuple[str, ...], "trackers: tensorboard, wandb, mlflow, ...; their files go to trackers/"] = ()

    def __post_init__(self) -> None:
        at_least(self, 1, "save_steps", "save_total_limit")
        at_least(self, 0, "save_minutes")


def at_least(instance: object, least: int, *names: str) -> None:
    """Raise `OptionError` for the first of the fields `names` that is set and below `least`."""
    for name in names:
        value = getattr(instance, name)
        if value is not None and not value >= least:  # a NaN is below everything
            raise OptionError(f"--{name.replace('_', '-')}={value}, but it is at least {least}")


def check_encoding(name: str) -> str:
    """Return the name of an encoding, or raise `OptionError` where it isn't one."""
    if not _ENCODING.fullmatch(name):
        raise OptionError(f"'{name}' is no encoding of adapters; there are exact, bf16, 1bit and rank:R, as in rank:8")
    return name
