"""Call a server with openai's client, unmodified, in an environment that has it: python openai_client.py URL BASE."""

from __future__ import annotations

import asyncio
import sys

import openai


def main(url: str, base: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    assert {"mood", "story", base} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("mood").id == "mood"
    questions = [
        {"type": "predicate", "instructions": "", "name": "mood/l0"},
        {"type": "choice", "instructions": "", "name": "mood", "choices": [{"value": f"l{i}"} for i in range(3)]},
        {"type": "score", "instructions": "", "name": "mood", "levels": [{"label": f"l{i}"} for i in range(3)]},
        {"type": "predicate", "instructions": "", "name": "nobody/x"},
    ]
    decision = client.decisions.create(model="mood", input="a fine film", questions=questions)
    assert [a.type for a in decision.answers] == ["predicate", "choice", "score", "refusal"]
    assert abs(sum(p.probability for p in decision.answers[1].probabilities) - 1) < 1e-6
    assert decision.answers[0].probability == decision.answers[1].probabilities[0].probability

    async def again() -> object:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as later:
            return await later.decisions.create(model="mood", input="a fine film", questions=questions)

    assert asyncio.run(again()).answers == decision.answers
    text = client.completions.create(model="story", prompt="a fine", max_tokens=4).choices[0].text
    pieces = client.completions.create(model="story", prompt="a fine", max_tokens=4, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces).strip() == text
    messages = [{"role": "user", "content": "a fine film"}]
    chat = client.chat.completions.create(model="story", messages=messages, max_tokens=4)
    chunks = list(client.chat.completions.create(model="story", messages=messages, max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).strip() == chat.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
    vectors = client.embeddings.create(model=base, input=["a fine film", "so so"]).data
    floats = client.embeddings.create(model=base, input="a fine film", encoding_format="float").data[0].embedding
    assert len(vectors) == 2
    assert max(abs(a - b) for a, b in zip(vectors[0].embedding, floats, strict=True)) < 1e-6
    try:
        client.completions.create(model="moody", prompt="a")
    except openai.NotFoundError as error:
        assert "did you mean 'mood'" in error.message  # noqa: PT017
    else:
        raise AssertionError("an unknown adapter was answered")
    try:
        client.completions.create(model="story", prompt="a", temperature=-1)
    except openai.BadRequestError as error:
        assert error.type == "invalid_request_error"  # noqa: PT017
    else:
        raise AssertionError("an invalid temperature was accepted")
    print(f"openai {openai.__version__}: all routes answered")


if __name__ == "__main__":
    main(*sys.argv[1:])
