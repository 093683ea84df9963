"""What the readers make of each file of tests/fixtures/formats: its rows as short texts, and their notes."""

from __future__ import annotations

from typing import Any

MADE_HERE = "workbook.xlsx"

ANN = "Ann/B-PER Lee/I-PER lives in Oslo/B-LOC ."
PER = "Ann/B-PER Lee/I-PER lives in Oslo ."
NONE = "No names here ."
WORDS = "read as words (tokens) and tags (ner_tags)"


def spans(what: str, count: int, texts: int) -> str:
    each = "1 span" if count == 1 else f"{count} spans", "1 text" if texts == 1 else f"{texts} texts"
    return f"{what}: {each[0]} of characters in {each[1]} {WORDS}"


EXPECTED: dict[str, tuple[list[Any], list[str]]] = {
    "semicolons.csv": (["Cold soup, again = bad", "A film; fine = good"], ["separated by ';'"]),
    "quoted.tsv": (["two\nlines = bad", *["plain = good"] * 3], []),
    "spreadsheet.csv": (
        ["ham, hi, you, 0", "spam, yo, more, 1"],
        [
            "column 5 has no name and no content: left out",
            "column 1 has no name: read as 'column_1', filled in 2 rows",
            "column 4 has no name: read as 'column_4', filled in 1 row",
            "1 row of empty cells skipped",
        ],
    ),
    "title.csv": (
        ["the soup is cold = bad", "the rice is warm = good"],
        ["left out above the header: Survey of soups, autumn;; | ;;", "separated by ';'"],
    ),
    "spaces.csv": (["Cold soup, again = bad", "A film = good"], ["separated by ',', spaces after them removed"]),
    "windows-1251.csv": (
        ["Отличный фильм = хорошо", "Ужасная гостиница = плохо"],
        ["not UTF-8; read as Windows-1251: detected, not certain (--encoding overrules)"],
    ),
    "headerless.csv": (["cold soup = bad", "a film = good", "no seats = bad", "too late = bad"], []),
    MADE_HERE: (["Cold soup = 1", "A film = 2.5"], ["sheet 'rows' is read; not read: notes"]),
    "conll2003.txt": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["read as CoNLL: a word and its tag per line", "1 -DOCSTART- line skipped"],
    ),
    "word-lists.csv": (
        ["Ann/B-PER lives", "Oslo/B-LOC is old"],
        ["columns 'Sentence' and 'Tag' hold words and tags as texts: read as lists"],
    ),
    "mit.bio": (
        ["who stars/B-REL in jaws/B-TITLE"],
        ["words in column 1, tags in column 0 of 2, from 0"],
    ),
    "cluener.jsonl": (
        ["安/B-name 娜/I-name 在 奥/B-address 斯/I-address 陆/I-address"],
        [spans("column 'label'", 2, 1), "spans whose end is their last character, corrected by their text: 2"],
    ),
    "universal-ner.iob2": (
        [ANN, NONE],
        ["words in column 1, tags in column 2 of 5, from 0", "4 comment lines skipped"],
    ),
    "plus.conllup": (
        [ANN],
        [
            "CoNLL-U: words in column 1, tags in column 3 of 4, from 0",
            "2 comment lines skipped",
            "1 line of a range of words (1-2) skipped",
        ],
    ),
    "label-studio-choices.csv": (
        ["The soup was cold and dear. = ['food', 'price']", "A fine lunch. = ['food']", "Nothing. = []"],
        ["choices read as lists of labels (sentiment)"],
    ),
    "argilla-2-dataset.jsonl": (
        ["Cold soup = bad", "A film = good"],
        [
            "1 record without a submitted response left out",
            "1 further response to a question not read",
            "1 record with suggestions, which are not read",
        ],
    ),
    "ground-truth.jsonl": ([ANN, NONE], [spans("column 'job'", 2, 2)]),
    "vertex.jsonl": ([ANN, NONE], [spans("column 'textSegmentAnnotations'", 2, 2)]),
    "offset-length.jsonl": ([ANN, NONE], [spans("column 'entities'", 2, 2)]),
    "germeval.conll": (
        ["Ann/B-PER lebt"],
        ["words in column 1, tags in column 2 of 4, from 0", "1 comment line skipped"],
    ),
    "ontonotes.conll": (
        ["Ann/B-PERSON Lee/I-PERSON left"],
        [
            "words in column 3, tags in column 10 of 11, from 0, brackets read as B-, I- and O",
            "2 comment lines skipped",
        ],
    ),
    "universal.conllu": (
        ["De/ADP le/DET vin/NOUN"],
        ["2 comment lines skipped", "1 line of a range of words (1-2) skipped", "1 empty node (2.1) skipped"],
    ),
    "doccano.jsonl": (
        [NONE, ANN, PER],
        [
            spans("column 'label'", 3, 3),
            "overlapping or nested spans left out (the first and outermost one counts): 1",
            "spans outside of their text, or without a word, left out: 1",
        ],
    ),
    "doccano-relations.jsonl": ([ANN], [spans("column 'entities'", 2, 1)]),
    "doccano-numbers.jsonl": (["Ann/B-2 Lee/I-2 lives in Oslo ."], [spans("column 'annotations'", 1, 1)]),
    "doccano-classification.jsonl": (
        ["Ann Lee lives in Oslo. = ['residence']", "No names here. = ['other', 'short']"],
        [],
    ),
    "prodigy.jsonl": (
        [ANN, NONE],
        [
            "1 row with the answer 'reject' left out",
            "1 row with the answer 'ignore' left out",
            spans("column 'spans'", 2, 2),
            "words cut where a span begins or ends inside of them: 1",
        ],
    ),
    "prodigy-textcat.jsonl": (["A fine film = POS"], ["1 row with the answer 'reject' left out"]),
    "prodigy-choice.jsonl": (
        ["A fine film = POS", "Cold soup = NEG"],
        ["1 row with no accepted option left out", "accepted options read as labels (label)"],
    ),
    "label-studio.json": (
        [ANN, NONE],
        [
            "1 task without an annotation left out",
            "1 further annotation of a task not read",
            "1 result without a span or a choice not read",
            spans("column 'spans'", 2, 2),
        ],
    ),
    "label-studio-choices.json": (["A fine film = good", "Cold soup = bad"], ["choices read as labels (sentiment)"]),
    "label-studio-min.json": (
        [PER, "😀 Ann/B-PER Lee/I-PER"],
        [
            spans("column 'label'", 2, 2),
            "spans with offsets in units of UTF-16, corrected by their text: 1",
            "further labels of a span left out: 1",
        ],
    ),
    "label-studio-min-choices.json": (
        ["A fine film = ['film', 'praise']", "Cold soup = ['food']"],
        ["choices read as lists of labels (topic)"],
    ),
    "spacy.json": ([ANN, NONE], [spans("column 'entities'", 2, 2)]),
    "spacy.jsonl": ([PER], [spans("column 'ents'", 1, 1)]),
    "spacy-categories.json": (
        ["A fine film = POS", "Cold soup = NEG"],
        ["cats read as categories with a score of at least 0.5 (label)"],
    ),
    "spacy-annotator.json": ([PER], [spans("column 'entities'", 1, 1)]),
    "dataturks.jsonl": ([PER], [spans("column 'annotation'", 1, 1)]),
    "entities.jsonl": (["Ann Lee lives in Oslo/B-city .", NONE], [spans("column 'entities'", 1, 2)]),
    "brat": (
        ["Ann/B-PER Lee/I-PER lives in", "Oslo/B-LOC . No/B-NONE names/I-NONE here ."],
        [
            spans("BRAT", 3, 2),
            "spans left out because their text isn't at their offsets: 1",
            "1 relation, event or note not read",
        ],
    ),
    "webanno.tsv": (
        ["Ann/B-PER Lee/I-PER lives in Oslo/B-GEO_LOC .", "Northsea/B-LOC -coast"],
        [
            spans("layer 'webanno.custom.NamedEntity|value'", 3, 2),
            "overlapping or nested spans left out (the first and outermost one counts): 1",
            "words cut where a span begins or ends inside of them: 1",
        ],
    ),
    "fasttext.txt": (
        ["A fine film = ['good']", "Go away, cold soup = ['bad', 'rude']"],
        ["read as fastText: __label__ words are lists of labels"],
    ),
    "kaggle-ner.csv": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["3 rows of a word each read as 2 sentences, by column 'Sentence #'"],
    ),
    "label-studio.csv": ([PER, NONE], [spans("column 'label'", 1, 2)]),
    "lighttag.json": (
        [PER],
        ["rows read from 'examples'; not read: relations, schema", spans("column 'annotations'", 1, 1)],
    ),
    "pandas.json": (["A fine film = good", "Cold soup = bad"], ["an object of columns, text, label: read as rows"]),
    "columns.json": (["A fine film = good", "Cold soup = bad"], ["an object of columns, text, label: read as rows"]),
    "pandas-split.json": (["A fine film = good", "Cold soup = bad"], []),
    "by-key.json": (
        ["A fine film = good", "Cold soup = bad"],
        ["an object of 2 rows by key: the keys are not read"],
    ),
    "viewer.json": (["A fine film = good"], ["rows read from 'rows'; not read: features, num_rows_total"]),
    "wikiann.txt": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["read as CoNLL: a word and its tag per line", "'en:' before every word left out"],
    ),
    "arc.jsonl": (
        ["Which is cold? : ice / fire / mud / sky = A", "Which burns? : ice / fire / mud = B"],
        ["2 questions with a stem: read as question and choices"],
    ),
    "openbookqa.jsonl": (
        ["Frost is a sign of : cold / heat = A"],
        ["1 question with a stem: read as question and choices"],
    ),
    "commonsenseqa.jsonl": (
        ["Where is snow? : desert / mountain = B"],
        ["1 question with a stem: read as question and choices"],
    ),
    "race.json": (
        ["It snowed. Ann fell. It was _ . : rain / snow = B", "It snowed. Ann fell. Who fell? : Ann / Lee = A"],
        ["1 article with several questions: a row for each"],
    ),
    "hellaswag.jsonl": (["A man skates. he : turns. / melts. = 0"], []),
    "piqa.jsonl": (["Cool a drink : Add ice. / Add fire. = 0"], []),
    "winogrande.jsonl": (
        [
            "The ice beat the fire because _ was cold. : ice / fire = 1",
            "The ice beat the fire because _ was out. : ice / fire = 2",
        ],
        [],
    ),
    "alphanli.jsonl": (
        [
            "It snowed all night. I slipped. : The path was dry. / The path was icy. = 2",
            "It was hot. I swam. : The lake was near. / The lake was frozen. = 1",
        ],
        [],
    ),
    "sciq.json": (
        [
            "Ice melts when it is warm. What melts? : ice / fire / light / air = ice",
            " What burns? : wood / water / stone / ice = wood",
        ],
        [],
    ),
    "boolq.jsonl": (
        ["is ice cold + Ice is frozen water. = True", "is fire cold + Fire is hot. = False"],
        [],
    ),
}
OVERLAP = "1 overlapping or nested span left out (the first and outermost one counts)"
OUTSIDE = "1 span without a word of its sentence, or without a label, left out"
LEE = ["Ann/B-PER Lee/I-PER left"]
EXPECTED |= {
    "scierc.jsonl": (
        ["Ann/B-PER Lee/I-PER left .", "Oslo/B-LOC snows"],
        ["1 document of DyGIE++", OUTSIDE, OVERLAP, "1 relation, event or cluster not read"],
    ),
    "spert.json": (LEE, ["1 sentence of SpERT"]),
    "gliner.json": (LEE, ["1 sentence of GLiNER"]),
    "w2ner.json": (LEE, ["1 sentence of W2NER", OUTSIDE]),
    "words.csv": (
        ["Ann/B-PER lives", ", Oslo/B-LOC"],
        ["1 row of empty cells skipped", "4 rows of a word each read as 2 sentences, which empty rows end"],
    ),
    "texts.json": (
        ["A fine film", "Cold soup", "No seats"],
        ["2 bare texts read as column 'text'", "1 row is JSON in a JSON text: read as its object"],
    ),
}
EXPECTED["row-names.tsv"] = (
    ["Cold soup = bad", "A fine film = good"],
    ["the header lacks the name of the first column, numbers of rows: 'row_number'"],
)
SOUP = ["A fine film = good", "Cold soup = bad"]
EXPECTED |= {
    "gzip.csv.gz": (SOUP, []),
    "bzip2.jsonl.bz2": (SOUP, []),
    "xz.tsv.xz": (SOUP, []),
    "zstandard.jsonl.zst": (SOUP, []),
    "saved-set": (["Cold soup = bad", "A film = good"], []),
    "archive.zip": (SOUP, ["'reviews/reviews.csv' is read; not read: reviews/LICENSE"]),
    "rasa.yml": (
        ["from Oslo/B-city to Lima/B-city", "go home"],
        [
            "1 part without an intent (synonyms, lookup tables, regular expressions) not read",
            spans("column 'entities'", 2, 2),
        ],
    ),
    "rasa.json": (["to Oslo/B-city"], [spans("column 'entities'", 1, 1)]),
    "snips.json": (["to Oslo/B-goal", "go home"], ["2 utterances in pieces", spans("column 'entities'", 1, 2)]),
    "luis.json": (["to Oslo/B-city"], [spans("column 'entities'", 1, 1)]),
    "dialogflow.json": (["to Oslo/B-city"], ["1 utterance in pieces", spans("column 'entities'", 1, 1)]),
    "newsqa.json": (
        ["Who fell? : Ann at 0", "Why? : nothing"],
        ["1 story of NewsQA", "1 question without an answer that annotators agree on left out"],
    ),
    "tydiqa.jsonl": (
        ["Who fell? : Anna at 3", "Why? : nothing"],
        ["3 questions of TyDi QA", "1 question with yes or no as its answer left out"],
    ),
    "record.jsonl": (["@placeholder fell down. : Ann at 0, Ann at 21"], ["1 passage of ReCoRD"]),
    "oasst.jsonl": (
        ["user: Hi; assistant: Hello."],
        [
            "2 trees of messages",
            "1 reply that is not the best of its message not read",
            "1 tree without a reply of the assistant left out",
        ],
    ),
    "spacy-2.json": (["Ann/B-PER Lee/L-PER left", "Oslo/U-LOC snows"], ["1 document of spaCy 2"]),
    "argilla-1.jsonl": (
        ["A fine film = good", "Cold tea = bad"],
        ["1 record without a submitted response left out", "1 further response to a question not read"],
    ),
    "argilla-2.json": (
        [PER.replace(" .", ".").replace("Oslo.", "Oslo .")],
        ["1 record with suggestions, which are not read", spans("column 'entities'", 1, 1)],
    ),
    "label-studio-ratings.json": (["A fine film = 5", "Cold soup = 1"], []),
    "label-studio-taxonomy.json": (["A fine film = Arts / Film"], ["choices read as labels (topic)"]),
    "label-studio-textarea.json": (["Ein guter Film -> A fine film"], []),
    "doccano-seq2seq.jsonl": (["Ein guter Film = ['A fine film']", "Kalte Suppe = ['Cold soup']"], []),
}
CHAT = "user: Hi; assistant: Hello"
WHERE = "Where? : Oslo"
TAGGED = ["Ann/B-PER Lee/I-PER lives in Oslo/B-LOC .", "No names here ."]
ENTITIES = "column 'entities': 2 spans of characters in 2 texts read as words (tokens) and tags (ner_tags)"
EXPECTED |= {
    "gemini.jsonl": (
        ["system: Be kind.; user: Hi\nthere; model: Hello"],
        ["1 chat of Gemini: read as messages"],
    ),
    "capybara.jsonl": (
        [f"{CHAT}; user: More; assistant: Yes", "user: Why; assistant: So"],
        ["2 conversations in pairs of turns: read as messages"],
    ),
    "lima.jsonl": ([CHAT], ["1 conversation of texts: read as messages in turn"]),
    "moss.jsonl": ([f"system: You are MOSS.\n; {CHAT}"], ["1 chat of MOSS: read as messages"]),
    "openai-preferences.jsonl": (
        [CHAT],
        ["1 preference of OpenAI", "1 output that wasn't preferred not read"],
    ),
    "history.json": (
        [f"{CHAT}; user: More\nof it; assistant: Yes", CHAT],
        ["2 instructions with a history: read as messages"],
    ),
    "mrqa.jsonl": ([f"{WHERE} at 20"], ["1 header of MRQA", "1 context of MRQA"]),
    "hotpotqa.json": ([WHERE], ["2 questions of HotpotQA", "1 question with yes or no as its answer left out"]),
    "cmrc.json": (["在哪里 : 北京"], ["1 passage of CMRC"]),
    "drop.json": (
        [WHERE, "What? : goals"],
        [
            "an object of 2 rows by key: the keys are not read",
            "2 passages of DROP",
            "1 question whose answer is a number, a date or several spans left out",
        ],
    ),
    "ground-truth-classes.jsonl": (["Cold soup = bad", "A film = good"], ["2 texts of Ground Truth"]),
    "vertex-classes.jsonl": (
        ["Cold soup = bad", "A film = good"],
        ["3 texts of Vertex AI", "1 text without a label left out"],
    ),
    "bioc.json": (
        ["Ann Lee", TAGGED[0]],
        ["rows read from 'documents'; not read: source, date, key", "1 document of BioC", ENTITIES],
    ),
    "pubtator.txt": (
        ["Ann/B-PER Lee/I-PER Lives in Oslo/B-LOC .", TAGGED[1]],
        ["read as PubTator: title and abstract are a text", "1 relation not read", ENTITIES],
    ),
    "cas.json": (
        [f"😀 {TAGGED[0]}", TAGGED[1]],
        [
            "1 document of UIMA CAS: a row for each sentence",
            "1 span of the layer custom.Mood not read",
            ENTITIES,
        ],
    ),
    "gate.jsonl": (TAGGED, [ENTITIES]),
    "slashed.txt": (
        ["Ann/NNP Lee/NNP lives/VBZ ./.", "No/DT names/NNS here/RB ./."],
        ["read as words with tags: word/TAG"],
    ),
}
