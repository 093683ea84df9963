"""Call a server with huggingface_hub's InferenceClient, unmodified: python hf_client.py URL MASK."""

from __future__ import annotations

import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


def main(url: str, mask: str) -> None:
    client = InferenceClient(token="none")

    def at(name: str) -> str:
        return f"{url}/models/{name}"

    labels = client.text_classification("a fine film", model=at("mood"))
    assert [type(x).__name__ for x in labels] == ["TextClassificationOutputElement"] * 3, labels
    assert abs(sum(x.score for x in labels) - 1) < 1e-6
    assert [x.score for x in labels] == sorted((x.score for x in labels), reverse=True)
    assert len(client.text_classification("a fine film", model=at("mood"), top_k=1)) == 1
    entities = client.token_classification("the staff at the bar were rude", model=at("entities"))
    assert entities
    for entity in entities:
        assert entity.word == "the staff at the bar were rude"[entity.start : entity.end]
        assert entity.entity_group == "a"
    context = "a fine film by a great staff"
    answer = client.question_answering("what is it?", context, model=at("questions"))
    assert answer.answer == context[answer.start : answer.end]
    assert 0 <= answer.score <= 1
    words = client.fill_mask(f"a {mask} film", model=at("masks"), top_k=7)
    assert len(words) == 7
    assert all(isinstance(word.token, int) and word.sequence and word.token_str is not None for word in words)
    assert client.text_generation("a fine", model=at("story"), max_new_tokens=3)
    pieces = list(client.text_generation("a fine", model=at("story"), max_new_tokens=3, stream=True))
    assert "".join(pieces).strip() == client.text_generation("a fine", model=at("story"), max_new_tokens=3)
    *_, last = client.text_generation("a fine", model=at("story"), max_new_tokens=3, stream=True, details=True)
    assert last.generated_text == "".join(pieces)
    assert client.translation("a fine film", model=at("short")).translation_text
    assert client.summarization("a fine film", model=at("short")).summary_text
    try:
        client.text_classification("a fine film", model=at("moody"))
    except HfHubHTTPError as error:
        assert error.response.status_code == 404  # noqa: PT017
        assert "did you mean 'mood'" in str(error), error  # noqa: PT017
    else:
        raise AssertionError("an unknown adapter was answered")
    print("huggingface_hub: all tasks answered")


if __name__ == "__main__":
    main(*sys.argv[1:])
