"""Read rows of objects as annotation tools write them: from all tools, one step after the other."""

from __future__ import annotations

from .argilla import records
from .label_studio import tasks
from .layouts import unnested
from .prodigy import accepted
from .source import NumberedRows, Source
from .span_rows import with_words


def annotated(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return rows with words and tags instead of spans, without rejected ones, and with chosen options as labels.

    Rows of other layouts, and of a stream, which can't wait for further rows, are returned as they are, but for nested
    questions.
    """
    numbered = unnested(source, numbered)
    if not source.repeatable:
        return numbered
    return with_words(source, accepted(source, tasks(source, records(source, numbered))))
