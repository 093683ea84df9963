"""Lengths of texts in tokens: the default of max_seq_length, and the texts that a task cuts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.progress import bars_hidden
from ..tasks import Task
from ..tasks.windows import longest
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

    from ..base.base import Base
    from ..base.tokenizer import BaseTokenizer

QUANTILE = 0.995
"""The share of the training rows that the default of max_seq_length doesn't cut."""
LARGEST = 2_048
"""The largest default; an option sets a larger one."""
_TEXTS = {"max_seq_length": "texts", "max_target_length": "targets"}
_SPECIAL = 8  # more tokens than a tokenizer adds to a text


def token_counts(
    task: Task, data: Dataset, base: Base | BaseTokenizer, watch: Watch | None = None
) -> dict[str, np.ndarray]:
    """Return the tokens of each row before it is cut, by the option that limits them; cached by content.

    Empty for a task that cuts no text.
    """
    options = {f.name: getattr(task, f.name) for f in fields(task) if f.name not in task.label_options}
    reads = {name: value for name, value in options.items() if not name.startswith("max_")}
    key = f"lengths {data._fingerprint} {type(task).__qualname__} {reads!r} {base.tokenizer_digest}"
    if not len(data) or not task.lengths(data[:1], base.tokenizer, labelled=True):
        return {}
    with (watch or Watch()).bar("counting tokens", len(data)) as bar, bars_hidden():

        def counts(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            bar.advance(len(next(iter(rows.values()), ())))
            return task.lengths(rows, base.tokenizer, labelled=True)

        lengths = data.map(
            counts,
            batched=True,
            remove_columns=data.column_names,
            try_original_type=False,
            new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        )
    return {name: np.asarray(lengths[name]) for name in lengths.column_names}


def with_length(task: Task, train: Dataset, base: Base | BaseTokenizer, watch: Watch | None = None) -> Task:
    """Return the task with its default max_seq_length: that of nearly all training rows, if the base takes as many.

    It is the `QUANTILE` of their tokens, rounded up to a multiple of 8, and at least the task's own default; at most
    what the base takes, and `LARGEST`.
    """
    least = next(f.default for f in fields(task) if f.name == "max_seq_length")
    assert least is not MISSING
    counts = token_counts(task, train, base, watch).get("max_seq_length", np.zeros(1))
    nearly_all = int(np.quantile(counts, QUANTILE, method="higher"))
    length = min(max(least, -(-nearly_all // 8) * 8), base.max_length or LARGEST, LARGEST)
    return replace(task, max_seq_length=length)


def length_remarks(
    task: Task, data: Dataset, file: str, base: Base | BaseTokenizer, watch: Watch | None = None
) -> list[str]:
    """Return how many texts are longer than the task reads, a line for each limit that some exceed."""
    remarks = []
    for option, counts in token_counts(task, data, base, watch).items():
        limit = getattr(task, option)
        if longer := int((counts > limit).sum()):
            read = "are read in windows" if task.reads_windows and option == "max_seq_length" else "were cut"
            some = f"{longer:,} of {len(counts):,} {_TEXTS[option]}"
            most = f"the longest has {counts.max():,}; {option} sets the limit"
            remarks.append(f"{file}: {some} are longer than {limit} tokens and {read} ({most})")
    return remarks


def count_cut(
    task: Task, rows: Mapping[str, Sequence[Any]], tokenizer: Any, features: Mapping[str, Sequence[Any]] | None = None
) -> int:
    """Return how many rows to predict are longer than max_seq_length, where the task cuts them.

    Only rows that may be are tokenized again, with a larger limit: those whose `features` have as many tokens as the
    task reads or, without these, those of more bytes, of which a token has at least one.
    """
    if task.reads_windows or not task.cuts_prompts or not rows:
        return 0
    columns = [name for name in task.input_columns if name in rows]
    count = len(next(iter(rows.values())))
    if features is None:
        most = task.max_seq_length - _SPECIAL
        sizes = [sum(len(str(rows[name][i]).encode("utf-8", "replace")) for name in columns) for i in range(count)]
        long = [i for i, size in enumerate(sizes) if size > most]
    else:
        long = [i for i, ids in enumerate(features["input_ids"]) if longest(ids) >= task.max_seq_length]
    if not long or long[-1] >= count:
        return 0
    one_more = replace(task, max_seq_length=task.max_seq_length + 1)  # no limit would tokenize megabytes
    ids = one_more.prompts({name: [rows[name][i] for i in long] for name in columns}, tokenizer)["input_ids"]
    return sum(longest(row) > task.max_seq_length for row in ids) if len(ids) == len(long) else 0


def cut_note(task: Task, cut: int, count: int) -> str:
    """Return a remark on rows to predict that were cut."""
    return f"{cut:,} of {count:,} texts are longer than {task.max_seq_length} tokens and were cut"
