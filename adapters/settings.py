"""Options of a run besides those of its strategy and its task, named as in transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from .errors import OptionError

RUN_FILE = "run.yaml"
"""The file that holds a run's options, beside its checkpoints and its adapter."""
REMARKS_FILE = "remarks.txt"
"""The file that holds the remarks on a run's rows, one a line, beside run.yaml."""
AS_IS = "as-is"
"""The encoding of adapters that are saved without one."""
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " ", "\\t": "\t"}
_ENCODING = re.compile("exact|bf16|1bit|rank:[1-9][0-9]{0,3}")


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """Which pretrained model to use."""

    base: Annotated[
        str, "pretrained model: a folder, a Hub id, minilm, or a file of word vectors", "--model-name-or-path"
    ] = "minilm"
    revision: Annotated[str | None, "branch, tag or commit of the model on the Hub", "--model-revision"] = None
    trust_remote_code: Annotated[bool, "allow models with their own Python code on the Hub to run it"] = False
    quantization: Annotated[
        Literal["no", "4bit", "8bit"], "load the model's linear layers in 4 or 8 bits (bitsandbytes); they stay frozen"
    ] = "no"
    added_tokens: Annotated[tuple[str, ...], "tokens to add to the tokenizer; their embeddings are trained"] = ()


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the rows come from."""

    dataset: Annotated[
        str | None,
        "dataset: demo:NAME, a folder, a Hub id, or a single file to split",
        "--data",
        "--dataset-name",
    ] = None
    dataset_config_name: Annotated[str | None, "configuration of the dataset on the Hub", "--dataset-config"] = None
    train_file: Annotated[str | None, "training rows: csv, tsv, xlsx, jsonl, json, parquet, arrow, conll or txt"] = None
    validation_file: Annotated[
        str | None, "validation rows, by which the best epoch is chosen", "--eval-file", "--dev-file"
    ] = None
    test_file: Annotated[str | None, "test rows, on which the best epoch is evaluated"] = None
    validation_split_percentage: Annotated[
        int | None,
        "percentage of the training rows used for validation if there are no validation rows, 0 for none (default: 10, "
        "0 for head-only on fewer than 1,000 texts, which it cross-validates, and 0 with a probe on fewer than 200)",
    ] = None
    max_train_samples: Annotated[int | None, "maximum number of training rows (a random sample)"] = None
    max_eval_samples: Annotated[int | None, "maximum number of validation and of test rows (a random sample)"] = None
    skip_bad_rows: Annotated[bool, "skip rows that can't be read or used, and report how many"] = False
    tag_column: Annotated[
        int | None, "index of the tag column in a CoNLL file, from 0; negative from the end (default: the last)"
    ] = None
    word_column: Annotated[
        int | None, "index of the word column in a CoNLL file, from 0; negative from the end (default: inferred)"
    ] = None
    separator: Annotated[
        str | None, "separator of the cells of a table: comma, semicolon, tab, pipe or a character (default: inferred)"
    ] = None
    column_names: Annotated[
        tuple[str, ...], "names of the columns of a table that has no header, such as label,text"
    ] = ()
    encoding: Annotated[
        str | None, "encoding of text files, such as utf-8, cp1251 or gb18030 (default: UTF-8, else detected)"
    ] = None

    def __post_init__(self) -> None:
        if self.separator is not None:
            object.__setattr__(self, "separator", check_separator(self.separator))
        if not 0 <= (self.validation_split_percentage or 0) <= 50:
            raise OptionError(
                f"validation_split_percentage must be between 0 and 50, got {self.validation_split_percentage}"
            )
        at_least(self, 1, "max_train_samples", "max_eval_samples")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Batches, learning rate schedule, regularisation, precision and caching."""

    num_train_epochs: Annotated[int, "number of training epochs; the best one is saved", "--epochs"] = 5
    per_device_train_batch_size: Annotated[
        int, "batch size per device for training", "--batch-size", "--train-batch-size"
    ] = 16
    per_device_eval_batch_size: Annotated[int, "largest batch size per device for evaluation", "--eval-batch-size"] = 64
    gradient_accumulation_steps: Annotated[int, "number of batches to accumulate gradients over before an update"] = 1
    warmup_ratio: Annotated[float, "fraction of training steps used for linear learning rate warmup"] = 0.1
    lr_scheduler_type: Annotated[
        Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"],
        "learning rate schedule after warmup",
    ] = "linear"
    weight_decay: Annotated[float, "weight decay of AdamW, not applied to biases and norms"] = 0.0
    layer_lr_decay: Annotated[
        float, "layer-wise learning rate decay: factor from each block to the one below (1: none)"
    ] = 1.0
    label_smoothing_factor: Annotated[float, "label smoothing factor (0: none)"] = 0.0
    early_stopping_patience: Annotated[int | None, "stop after this many epochs without improvement"] = None
    max_grad_norm: Annotated[float, "maximum gradient norm for gradient clipping (0: no clipping)"] = 1.0
    head: Annotated[
        Literal["auto", "probe", "model"],
        "type of the head: model (transformers' own), probe (linear map of the mean over a text's tokens; tags: frozen "
        "bases only) or auto (probe if the base is frozen, or embeds texts and there are at most 64 rows a label)",
    ] = "auto"
    head_init: Annotated[
        Literal["auto", "random", "probe"],
        "initialisation of transformers' head: random, probe (last layer from a linear probe) or auto (probe for text "
        "labels, and for three or more tags)",
    ] = "auto"
    group_by_length: Annotated[bool, "batch rows of similar length together, to minimise padding"] = True
    max_tokens_per_batch: Annotated[
        int | None, "maximum number of tokens in a training batch, padding included; batches get smaller"
    ] = None
    mixed_precision: Annotated[
        Literal["auto", "no", "bf16", "fp16"],
        "mixed precision training: auto is bf16 if the hardware supports it, else no (fp32)",
    ] = "auto"
    cache_trunk: Annotated[
        Literal["auto", "on", "off"], "run frozen layers below all trained ones once and cache their hidden states"
    ] = "auto"
    cache_memory: Annotated[
        float | None, "memory for cached hidden states in GiB, larger caches use a file (default: 1/4 of free memory)"
    ] = None
    keep_features: Annotated[bool, "cache hidden states on disk for later runs on the same base and data"] = False
    gradient_checkpointing: Annotated[bool, "save memory by recomputing activations in the backward pass"] = False
    torch_compile: Annotated[bool, "compile the model with torch.compile; pays off for long training only"] = False
    seed: Annotated[int, "random seed (head initialisation, shuffling, dropout)"] = 42
    save_as: Annotated[
        str,
        "encoding of saved full-weight changes: as-is, exact, bf16, 1bit or rank:R (docs/how-to/compress-adapters.md)",
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
            raise OptionError(f"seed must be < {1 << 32}, got {self.seed}")
        for name in ("warmup_ratio", "layer_lr_decay", "label_smoothing_factor"):
            if getattr(self, name) > 1:
                raise OptionError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class SavingOptions:
    """Checkpoints, and experiment trackers."""

    save_steps: Annotated[int | None, "number of optimizer steps between two checkpoints (overrides save_minutes)"] = (
        None
    )
    save_minutes: Annotated[float, "minutes between two checkpoints, in addition to one after each epoch"] = 10
    save_total_limit: Annotated[int, "number of newest checkpoints to keep until the adapter is saved"] = 2
    overwrite: Annotated[bool, "replace an adapter of the same name that is for another task"] = False
    stage: Annotated[
        str | None, "tag of the new version, which doesn't become the current one: compare it by adapt serve --canary"
    ] = None
    report_to: Annotated[
        tuple[str, ...], "experiment trackers: tensorboard, wandb, mlflow, ... (files in trackers/)"
    ] = ()

    def __post_init__(self) -> None:
        at_least(self, 1, "save_steps", "save_total_limit")
        at_least(self, 0, "save_minutes")


def at_least(instance: object, least: int, *names: str) -> None:
    """Raise `OptionError` for the first of the fields `names` that is set and below `least`."""
    for name in names:
        value = getattr(instance, name)
        if value is not None and not value >= least:  # also true for NaN
            raise OptionError(f"{name} must be >= {least}, got {value}")


def check_separator(separator: str) -> str:
    """Return the character that separates cells, by itself or by its name; raises `OptionError` for any other text."""
    character = _SEPARATORS.get(separator.lower(), separator)
    if len(character) != 1 or character in '"\r\n\\':
        raise OptionError(f"separator must be {', '.join(_SEPARATORS)} or a single character, got {separator!r}")
    return character


def check_encoding(name: str) -> str:
    """Return the name of an encoding; raises `OptionError` for any other name."""
    if not _ENCODING.fullmatch(name):
        raise OptionError(f"no encoding named '{name}'; available: exact, bf16, 1bit, rank:R (such as rank:8)")
    return name
