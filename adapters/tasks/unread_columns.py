"""Columns that a task doesn't read although they look as if they mattered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .columns import LABELS, TEXTS, first_of, visible
from .values import is_empty

if TYPE_CHECKING:
    from datasets import Dataset

    from .task import Task

IMPORTANT = {
    *TEXTS,
    *LABELS,
    *("input", "inputs", "instruction", "context", "system", "history", "passage", "document", "article", "question"),
    *("answer", "answers", "response", "output", "completion", "title", "subject", "headline", "body", "abstract"),
    *("description", "summary", "premise", "hypothesis", "text_pair", "text2", "sentence2", "tools", "functions"),
    *("aspect", "aspects", "aspect_term", "term", "word", "keyword", "entity", "entity1", "entity2", "head", "tail"),
    *("claim", "evidence", "parent", "reply", "post", "speaker", "history", "reference", "domain", "product"),
    *("label_text", "label_name", "label_names", "class_name", "annotator_labels", "gold"),
    *("tool_calls", "messages", "conversations", "entities", "spans", "rationale", "options", "choices"),
}
"""The names of columns that matter in the usual layouts of data sets."""
SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "eval"}
VERDICTS = {
    "accept",
    "accepted",
    "approved",
    "reject",
    "rejected",
    "ignore",
    "ignored",
    "skipped",
    "discarded",
    "flagged",
}
"""Values of columns that name the split of a row, or a reviewer's verdict on it."""
_SAMPLE = 1000
_WORDS = 3
"""The number of words from which a value is a text, and no name or date."""


def unread_remark(task: Task, data: Dataset, file: str) -> list[str]:
    """Return lines that name the columns which look as if they mattered and aren't read; none where there are none.

    These are columns of splits or verdicts, of texts of several words, and those with a name that a usual layout has.
    """
    read, names = {*task.columns_read}, visible(data.column_names)
    like_read = {name.lower() for name in (*read.difference(names), *task.metadata)}
    unread = [name for name in names if name not in read and name.lower() not in like_read]
    remarks = [f"{file}: {text}" for name in unread for text in _marks(name, data[name][:_SAMPLE])]
    named = [text for name in unread for text in _described(name, data[name][:_SAMPLE])]
    return remarks + ([f"{file}: not read: {', '.join(named)}{_how_to_read(task, unread)}"] if named else [])


def _marks(name: str, values: Sequence[Any]) -> Iterator[str]:
    """Yield what a column marks rows as that are all read alike."""
    marks = {str(value).strip().lower() for value in values if not is_empty(value)}
    shown = ", ".join(sorted(marks))
    if len(marks) > 1 and marks <= SPLITS:
        yield f"column '{name}' holds {shown}, and all rows are read as one split; save each split as a file"
    elif len(marks) > 1 and len(marks & VERDICTS) > 1 - (name.lower() in ("status", "answer", "review_status")):
        yield f"column '{name}' holds {shown}, and all rows are read; leave out those that were rejected"


def _how_to_read(task: Task, unread: Sequence[str]) -> str:
    """Return the flags that read the label of a text, where the tags of its words are read instead, as of Rasa."""
    label = first_of(LABELS, unread)
    if task.name != "token-classification" or label is None:
        return ""
    return f"; --task text-classification --label-column {label} reads '{label}' as the label of a text"


def _described(name: str, values: Sequence[Any]) -> Iterator[str]:
    """Yield a column with what it holds, where it looks as if it mattered."""
    filled = [value for value in values if not is_empty(value)]
    texts = [value for value in filled if isinstance(value, str) and len(value.split()) >= _WORDS]
    different = len({value if isinstance(value, str) else repr(value) for value in filled})
    if 2 * len(texts) > len(filled) and different > 1:
        words = sum(len(value.split()) for value in texts) / len(texts)
        yield f"column '{name}' (texts of {words:.0f} words)"
    elif name.lower() in IMPORTANT and different > 1:
        yield f"column '{name}' ({different} different values)"
