"""Read objects that nest what a task has in columns: each as one row, or as several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .benchmarks import article_questions, has_stem, is_article, with_stem
from .conversation_trees import best_path, is_tree
from .nlu import is_utterance, utterance
from .passages import (
    is_multirc,
    is_newsqa,
    is_record,
    is_tydi,
    newsqa_questions,
    record_questions,
    refused_multirc,
    tydi_question,
)
from .source import BadRow, NumberedRows, Row, Source
from .spacy_documents import is_document, sentences_of
from .word_spans import (
    dygie_sentences,
    gliner_sentence,
    is_dygie,
    is_gliner,
    is_spert,
    is_w2ner,
    spert_sentence,
    w2ner_sentence,
)

Counts = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """A layout of objects: whether one has it, and the rows of one, with a note for one such object and for many.

    `rows` counts what it leaves out or, where every row is to be predicted, leaves out nothing.
    """

    key: str  # that every such object has
    fits: Callable[[Row], bool]
    rows: Callable[[Row, Counts, bool], Iterator[Row | BadRow]]
    note: tuple[str, str]


_STEM = ("question with a stem: read as question and choices", "questions with a stem: read as question and choices")
_ARTICLE = (
    "article with several questions: a row for each",
    "articles with several questions: a row for each",
)
LAYOUTS = (
    Layout("question", has_stem, with_stem, _STEM),
    Layout("article", is_article, article_questions, _ARTICLE),
    Layout("questions", is_newsqa, newsqa_questions, ("story of NewsQA", "stories of NewsQA")),
    Layout("document_plaintext", is_tydi, tydi_question, ("question of TyDi QA", "questions of TyDi QA")),
    Layout("qas", is_record, record_questions, ("passage of ReCoRD", "passages of ReCoRD")),
    Layout("passage", is_multirc, refused_multirc, ("passage of MultiRC", "passages of MultiRC")),
    Layout("prompt", is_tree, best_path, ("tree of messages", "trees of messages")),
    Layout("paragraphs", is_document, sentences_of, ("document of spaCy 2", "documents of spaCy 2")),
    Layout("sentences", is_dygie, dygie_sentences, ("document of DyGIE++", "documents of DyGIE++")),
    Layout("entities", is_spert, spert_sentence, ("sentence of SpERT", "sentences of SpERT")),
    Layout("tokenized_text", is_gliner, gliner_sentence, ("sentence of GLiNER", "sentences of GLiNER")),
    Layout("sentence", is_w2ner, w2ner_sentence, ("sentence of W2NER", "sentences of W2NER")),
    Layout("data", is_utterance, utterance, ("utterance in pieces", "utterances in pieces")),
)


def layout_of(row: Row) -> Layout | None:
    """Return the layout of an object, or None for one whose keys are columns."""
    return next((layout for layout in LAYOUTS if layout.key in row and layout.fits(row)), None)


def unnested(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return the rows of the objects of a file, and objects without such a layout as they are."""
    objects: Counter[tuple[str, str]] = Counter()
    left_out: Counts = Counter()
    for line, row in numbered:
        layout = None if isinstance(row, BadRow) else layout_of(row)
        if layout is None or isinstance(row, BadRow):
            yield line, row
            continue
        objects[layout.note] += 1
        yield from ((line, inner) for inner in layout.rows(row, left_out, source.options.every_row))
    for note, count in (*objects.items(), *left_out.items()):
        source.count(count, *note)
