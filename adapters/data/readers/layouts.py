"""Read objects that nest what a task has in columns: each as one row, or as several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .benchmarks import article_questions, has_stem, is_article, with_stem
from .chat_layouts import (
    alternates,
    alternating_chat,
    gemini_chat,
    has_history,
    has_turns,
    history_chat,
    is_gemini,
    is_moss,
    is_preference,
    moss_chat,
    preferred_chat,
    turns_chat,
)
from .cloud_labels import ground_truth_text, is_ground_truth, is_vertex, vertex_text
from .conversation_trees import best_path, is_tree
from .document_spans import bioc_passages, cas_sentences, is_bioc, is_cas
from .nlu import is_utterance, utterance
from .passage_questions import (
    cmrc_questions,
    drop_questions,
    hotpot_question,
    is_cmrc,
    is_coqa,
    is_drop,
    is_hotpot,
    is_mrqa,
    is_mrqa_header,
    is_trivia,
    mrqa_questions,
    nothing,
    refused_coqa,
    refused_trivia,
)
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


_TURNS = ("conversation in pairs of turns: read as messages", "conversations in pairs of turns: read as messages")
_TEXTS = ("conversation of texts: read as messages in turn", "conversations of texts: read as messages in turn")
_HISTORY = ("instruction with a history: read as messages", "instructions with a history: read as messages")
_CAS = ("document of UIMA CAS: a row for each sentence", "documents of UIMA CAS: a row for each sentence")
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
    Layout(
        "contents", is_gemini, gemini_chat, ("chat of Gemini: read as messages", "chats of Gemini: read as messages")
    ),
    Layout("conversation", has_turns, turns_chat, _TURNS),
    Layout("conversations", has_turns, turns_chat, _TURNS),
    Layout("conversations", alternates, alternating_chat, _TEXTS),
    Layout("chat", is_moss, moss_chat, ("chat of MOSS: read as messages", "chats of MOSS: read as messages")),
    Layout("preferred_output", is_preference, preferred_chat, ("preference of OpenAI", "preferences of OpenAI")),
    Layout("history", has_history, history_chat, _HISTORY),
    Layout("header", is_mrqa_header, nothing, ("header of MRQA", "headers of MRQA")),
    Layout("qas", is_mrqa, mrqa_questions, ("context of MRQA", "contexts of MRQA")),
    Layout("supporting_facts", is_hotpot, hotpot_question, ("question of HotpotQA", "questions of HotpotQA")),
    Layout("context_text", is_cmrc, cmrc_questions, ("passage of CMRC", "passages of CMRC")),
    Layout("qa_pairs", is_drop, drop_questions, ("passage of DROP", "passages of DROP")),
    Layout("story", is_coqa, refused_coqa, ("story of CoQA", "stories of CoQA")),
    Layout("Answer", is_trivia, refused_trivia, ("question of TriviaQA", "questions of TriviaQA")),
    Layout("source", is_ground_truth, ground_truth_text, ("text of Ground Truth", "texts of Ground Truth")),
    Layout("textContent", is_vertex, vertex_text, ("text of Vertex AI", "texts of Vertex AI")),
    Layout("passages", is_bioc, bioc_passages, ("document of BioC", "documents of BioC")),
    Layout("%FEATURE_STRUCTURES", is_cas, cas_sentences, _CAS),
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
