"""Tokenize rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..base.base import Base
from ..data.progress import bars_hidden
from ..tasks import Task
from ..tasks.columns import require
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset


def tokenized(task: Task, data: Dataset, base: Base, *, labelled: bool, watch: Watch | None = None) -> Dataset:
    """Return the features of `data`, tokenized once and cached by content, task and tokenizer.

    Raises `DataError` where a column that the task reads isn't there, and `TaskError` where it reads none.
    """
    task.check_named()
    require(data.column_names, *(name for name in task.input_columns if name not in task.optional_columns))
    watch = watch or Watch()
    key = f"2 {data._fingerprint} {task!r} {base.tokenizer_digest} {labelled}"
    with watch.bar("tokenizing", len(data)) as bar, bars_hidden():

        def features(rows: Any, indices: list[int]) -> dict[str, Any]:
            columns = task.tokenize(rows, base.tokenizer, labelled=labelled)
            if "row" in columns:  # indices in the batch become indices in the data
                columns["row"] = [indices[i] for i in columns["row"]]
            bar.advance(len(indices))
            return columns

        return data.map(
            features,
            batched=True,
            with_indices=True,
            remove_columns=data.column_names,
            try_original_type=False,  # a column `labels` of the data may be of other values than the feature
            new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        )
