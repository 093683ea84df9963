"""Kinds of faults that files and texts of the field brought, with tests of at least three relatives of each."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
KINDS: dict[str, dict[str, list[str]]] = {
    "1 texts and words": {
        "data/test_hidden_and_repeated.py": [
            "test_special_tokens_inside_of_texts_are_counted",
            "test_texts_of_mostly_unknown_words_are_counted",
        ],
        "tasks/test_word_split.py": [
            "test_an_emoji_sequence_is_one_word",
            "test_invisible_characters_are_part_of_no_word_s_ends",
            "test_no_rule_cuts_inside_a_grapheme_cluster_or_drops_a_visible_character",
            "test_what_no_rule_reproduces_is_remarked_on",
        ],
        "tasks/test_any_value.py": ["test_a_list_with_an_empty_word_is_no_text_to_a_tagger"],
    },
    "2 length": {
        "tasks/test_lengths.py": [
            "test_every_task_that_cuts_counts_what_is_longer",
            "test_texts_to_predict_are_counted_whatever_their_script",
            "test_entities_at_any_place_of_a_long_row_are_learned_and_predicted",
            "test_long_pairs_have_the_tokens_that_the_tokenizer_alone_gives_them",
        ],
        "tasks/test_predict_equals_evaluation.py": ["test_what_follows_a_long_gap_is_read_in_every_way_of_prediction"],
    },
    "3 values that aren't texts": {
        "tasks/test_conversations.py": [
            "test_messages_in_a_cell_of_a_table_are_messages",
            "test_several_parts_are_lines_and_nothing_is_pythons_repr",
            "test_a_text_among_chats_is_refused",
        ],
        "tasks/test_message_weights.py": ["test_chats_of_which_nothing_is_learned_are_counted"],
        "tasks/test_columns_of_several_types.py": [
            "test_messages_of_several_types_are_read_as_prediction_reads_them",
            "test_schemas_of_tools_may_have_defaults_of_several_types",
        ],
        "tasks/test_text_pairs.py": ["test_several_references_of_a_translation_are_refused_and_a_single_one_is_read"],
        "tasks/test_answer_layouts.py": ["test_a_context_of_paragraphs_is_their_text_in_training_and_in_prediction"],
    },
    "4 columns": {
        "data/test_hidden_and_repeated.py": [
            "test_a_key_twice_in_an_object_is_counted_and_named",
            "test_of_columns_that_differ_in_case_the_usual_one_is_read_and_the_other_named",
        ],
        "data/test_remarks.py": ["test_a_column_that_looks_as_if_it_mattered_is_named"],
        "data/test_column_types.py": [
            "test_a_column_that_no_task_reads_becomes_text",
            "test_values_deeper_than_arrow_stores_are_text_or_an_error_with_their_line",
        ],
        "tasks/test_columns_named.py": [
            "test_columns_that_mark_rows_are_named",
            "test_of_preferences_the_chosen_answers_are_suggested",
            "test_both_texts_of_a_pair_are_read",
            "test_an_aspect_that_is_not_read_is_named",
        ],
        "tasks/test_conversations.py": [
            "test_tool_calls_and_tools_are_learned_whatever_the_template_writes",
            "test_keys_of_messages_that_are_not_read_are_named",
        ],
    },
    "5 labels": {
        "tasks/test_labels.py": [
            "test_labels_that_differ_in_case_or_spaces_within_are_named",
            "test_labels_joined_by_line_ends_are_named_and_split",
            "test_lists_of_a_flag_for_each_label_need_their_names",
            "test_labels_are_those_of_the_file_before_a_sample_is_drawn",
            "test_labels_that_are_tags_of_words_are_named",
            "test_decimal_commas_are_learned_and_evaluated_as_numbers",
            "test_labels_of_the_same_letters_in_other_codes_are_named",
            "test_labels_joined_by_spaces_are_named_where_each_part_is_a_label",
        ],
        "tasks/test_label_forms.py": [
            "test_labels_that_look_alike_are_named",
            "test_dates_among_other_labels_are_named",
            "test_lists_among_single_labels_are_named",
            "test_different_numbers_with_a_unit_or_other_signs_are_named",
            "test_lists_of_probabilities_are_no_labels",
            "test_targets_do_not_depend_on_the_type_or_the_name_of_the_column",
        ],
    },
    "6 tables": {
        "data/test_tables.py": [
            "test_utf_16_without_its_mark_is_detected",
            "test_an_encoding_that_is_not_clear_is_an_error_with_the_readings",
            "test_words_of_two_western_languages_are_windows_1252_however_often_they_occur",
            "test_english_with_typographic_marks_alone_is_windows_1252",
            "test_japanese_between_escapes_is_iso_2022_jp",
        ],
        "data/test_silent_damage.py": [
            "test_a_file_of_two_encodings_is_refused",
            "test_cyrillic_encodings_that_swap_cases_are_distinguished",
            "test_encodings_of_seven_bits_are_detected",
            "test_utf_8_that_was_read_as_another_encoding_is_counted",
            "test_lost_characters_and_signs_of_no_text_are_counted",
        ],
        "data/test_headers.py": [
            "test_cells_between_apostrophes",
            "test_rows_may_lack_their_last_cells_if_most_do_not",
            "test_titles_and_comments_above_the_header_are_left_out",
            "test_a_table_named_txt_is_refused_with_the_option_that_reads_it",
        ],
        "data/test_written_and_read.py": ["test_a_file_is_read_as_its_rows_and_written_as_itself"],
        "data/test_hidden_and_repeated.py": [
            "test_hidden_rows_and_columns_of_excel_are_counted",
            "test_a_visible_sheet_is_read_before_a_hidden_one",
            "test_the_header_of_a_second_file_with_a_mark_is_no_row",
            "test_a_saved_data_set_is_read_with_its_splits_and_class_names",
        ],
    },
    "7 tags and CoNLL": {
        "tasks/test_tag_schemes.py": [
            "test_the_figures_are_seqeval_s",
            "test_words_that_are_not_annotated_are_neither_learned_nor_measured",
            "test_types_alone_are_measured_as_entities_with_their_remark",
        ],
        "data/test_conll_layouts.py": [
            "test_a_line_that_ends_early_is_a_bad_row_in_conll_u",
            "test_tags_before_their_words_are_tags",
            "test_a_tsv_file_of_words_and_tags_is_conll",
            "test_a_last_column_that_holds_no_tags_is_none",
            "test_a_line_that_names_the_columns_is_no_word",
        ],
        "data/test_word_lists.py": ["test_words_and_tags_in_cells_are_lists"],
    },
    "8 annotation tools": {
        "data/test_fixtures_of_formats.py": ["test_a_file_is_read_as_the_page_states"],
        "data/test_nested_layouts.py": [
            "test_of_rows_to_predict_none_is_left_out",
            "test_ratings_and_taxonomies_of_json_min",
        ],
        "data/test_annotation_formats.py": [
            "test_a_pair_of_files_and_a_folder_of_pairs_are_read",
            "test_spans_by_type_and_with_other_ends_are_read",
        ],
    },
    "9 question answering": {
        "tasks/test_answer_layouts.py": [
            "test_an_answer_that_begins_with_a_bracket_is_a_text",
            "test_a_table_has_the_place_in_a_column_of_its_own",
            "test_rows_whose_answers_are_all_null_are_not_evaluated_as_unanswerable",
            "test_places_in_bytes_are_those_of_the_characters",
            "test_an_answer_may_differ_in_its_spaces",
            "test_a_place_of_the_nested_form_may_be_written_as_tables_have_it",
        ]
    },
    "10 rows that aren't whole": {
        "workflows/test_bad_rows.py": [
            "test_every_task_has_its_bad_rows_skipped",
            "test_a_file_of_bad_rows_alone_is_an_error",
        ],
        "data/test_files.py": ["test_of_rows_to_predict_an_empty_one_has_its_place"],
        "tasks/test_message_weights.py": ["test_completions_to_avoid_are_not_learned"],
        "data/test_remarks.py": [
            "test_rows_that_occur_twice_or_with_another_label_are_counted",
            "test_rows_of_two_splits_and_few_validation_rows_are_counted",
        ],
    },
    "11 metrics beyond English": {
        "metrics/test_scripts.py": [
            "test_identical_texts_have_100_in_every_language",
            "test_one_row_of_another_script_among_english_ones_is_no_zero",
            "test_a_metric_that_would_see_nothing_is_left_out_with_the_reason",
            "test_bleu_is_sacrebleus_with_the_tokenizer_of_the_script",
        ],
        "tasks/test_composed_characters.py": ["test_metrics_of_identical_texts_in_two_forms_are_100"],
    },
    "12 PEFT": {
        "convert/test_base_names.py": [
            "test_a_classifier_on_a_base_without_a_padding_token_is_imported",
            "test_every_loader_of_transformers_and_peft_answers_elsewhere_with_the_labels",
            "test_a_base_in_the_cache_of_the_hub_has_its_id",
        ]
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_the_tests_of_its_relatives(kind: str) -> None:
    assert sum(map(len, KINDS[kind].values())) >= 3
    for file, names in KINDS[kind].items():
        source = (TESTS / file).read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in source] == []
