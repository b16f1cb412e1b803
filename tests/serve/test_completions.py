"""The completions API, asked by OpenAI's own client and over the wire."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_openais_client_gets_what_p2_generate_writes(client, alone):
    answer = client.completions.create(model="lstm", prompt="the ", max_tokens=300, seed=7, temperature=0.8)
    assert answer.choices[0].text == alone["lstm"].generate("the ", length=300, seed=7, temperature=0.8)
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        4,
        300,
        304,
    )


def test_openais_client_reads_a_stream(client, alone):
    chunks = [*client.completions.create(
        model="gru", prompt="", max_tokens=9000, seed=1, stream=True, stream_options={"include_usage": True}
    )]  # fmt: skip
    *pieces, last = chunks
    assert "".join(chunk.choices[0].text for chunk in pieces) == alone["gru"].generate(length=9000, seed=1)
    assert len(pieces) >= 2
    assert [chunk.choices[0].finish_reason for chunk in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (0, 9000)


def test_openais_client_lists_the_models(client):
    assert [model.id for model in client.models.list()] == ["lstm", "gru"]
    assert client.models.retrieve("gru").id == "gru"


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"model": "none"}, openai.NotFoundError, "there is no model 'none' here; there is lstm, gru"),
        ({"model": "x" * 9999}, openai.NotFoundError, f"there is no model '{'x' * 39}...' here"),
        ({"prompt": "abcÄd"}, openai.BadRequestError, "'Ä' (U+00C4 LATIN CAPITAL LETTER A WITH DIAERESIS)"),
        ({"prompt": ["a", "bÄ"]}, openai.BadRequestError, "prompt[1]: the model does not know"),
        ({"n": 0}, openai.BadRequestError, "n is not at least 1"),
        ({"suffix": "x"}, openai.BadRequestError, "suffix is not supported: leave it out"),
        ({"prompt": "a" * 2001}, openai.BadRequestError, "at most 2000 characters"),
        ({"max_tokens": 20001}, openai.BadRequestError, "max_tokens must be at most 20000"),
        ({"prompt": [0, 1, 30]}, openai.BadRequestError, "the token 30 at position 2"),
        ({"temperature": 1, "extra_body": {"tau": 1}}, openai.BadRequestError, "give one of temperature"),
        ({"extra_body": {"colour": 1}}, openai.BadRequestError, "the request has the unknown field 'colour'"),
        ({"prompt": 7}, openai.BadRequestError, "prompt is not text: 7"),
        ({"prompt": []}, openai.BadRequestError, "the length of prompt is not at least 1"),
        ({"prompt": ["a"] * 2049}, openai.BadRequestError, "the length of prompt is not at most 2048"),
        ({"prompt": ["a", 1]}, openai.BadRequestError, "prompt[1] is not text: 1"),
        ({"prompt": [1, "a"]}, openai.BadRequestError, "prompt[1] is not a whole number: 'a'"),
        ({"prompt": [0, -1]}, openai.BadRequestError, "prompt[1] is not at least 0"),
        ({"prompt": [[1], []]}, openai.BadRequestError, "the length of prompt[1] is not at least 1"),
        ({"stop": ["a"] * 17}, openai.BadRequestError, "the length of stop is not at most 16"),
        ({"stop": ["a", 1]}, openai.BadRequestError, "stop[1] is not text: 1"),
    ],
)  # fmt: skip
def test_openais_client_is_told_what_is_wrong(client, fields, kind, said):
    with pytest.raises(kind) as caught:
        client.completions.create(**{"model": "lstm", "prompt": "a"} | fields)
    assert said in caught.value.body["message"]
    assert caught.value.body["type"] in ("invalid_request_error", "not_found_error")


def test_prompts_and_choices_are_numbered_as_p2_generate_numbers_them(served, alone):
    prompts = ["a ", "", "the end"]
    found = served.texts(prompt=prompts, n=3, seed=5, max_tokens=40, top_k=5)
    wanted = alone["lstm"].texts(prompts, num_samples=3, seed=5, length=40, top_k=5)
    assert found == [text.text for text in wanted]


def test_tokens_are_a_prompt(served, alone):
    vocabulary = alone["lstm"].card.vocabulary
    tokens = [vocabulary.index(character) for character in "the"]
    assert served.texts(prompt=tokens, seed=1) == served.texts(prompt=[tokens], seed=1)
    assert served.texts(prompt=tokens, seed=1) == served.texts(prompt="the", seed=1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_a_text_and_is_not_shown(served, alone, stream):
    plain = alone["lstm"].generate("the", length=400, seed=3)
    stop = [plain[70:73], "ÄÄ"]
    answer = served.ask(prompt="the", max_tokens=400, seed=3, stop=stop, stream=stream, logprobs=1)
    chunks = [line[6:] for line in answer.text.split("\n\n")[:-2]] if stream else [answer.text]
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    text = "".join(choice["text"] for choice in choices)
    assert text == alone["lstm"].generate("the", length=400, seed=3, stop=stop)
    assert choices[-1]["finish_reason"] == "stop"
    assert "".join(token for choice in choices for token in choice["logprobs"]["tokens"]) == text


def test_echo_puts_the_prompt_in_front(served):
    (written,) = served.texts(prompt="the Äquator", on_unknown="skip", seed=2)
    assert served.texts(prompt="the Äquator", on_unknown="skip", seed=2, echo=True) == [
        "the quator" + written
    ]


@pytest.mark.parametrize("prompt", ["the lazy dog", "q", ""])
@pytest.mark.parametrize("model", ["lstm", "gru"])
def test_logprobs_are_those_of_the_model(served, alone, model, prompt):
    answer = served.ask(
        model=model, prompt=prompt, max_tokens=30, seed=4, temperature=0.5, echo=True, logprobs=3
    ).json()
    (choice,) = answer["choices"]
    scores = choice["logprobs"]
    assert "".join(scores["tokens"]) == choice["text"]
    assert scores["text_offset"] == [*range(len(choice["text"]))]
    np.testing.assert_allclose(scores["token_logprobs"][1:], alone[model].logprobs(choice["text"]), atol=2e-5)
    assert scores["token_logprobs"][0] == (None if prompt else pytest.approx(-np.log(30)))
    for one, tops in zip(scores["token_logprobs"][1:], scores["top_logprobs"][1:], strict=True):
        assert len(tops) == 3
        assert max(tops.values()) >= one


def test_logprobs_of_texts_side_by_side_are_their_own(served, alone):
    answer = served.ask(model="gru", prompt=["the ", "she"], max_tokens=20, seed=5, logprobs=0).json()
    for prompt, choice in zip(("the ", "she"), answer["choices"], strict=True):
        own = alone["gru"].logprobs(prompt + choice["text"])[len(prompt) - 1 :]
        np.testing.assert_allclose(choice["logprobs"]["token_logprobs"], own, atol=2e-5)


def test_echo_alone_scores_a_text(served, alone):
    answer = served.ask(prompt="she sells", max_tokens=0, echo=True, logprobs=0).json()
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"], answer["usage"]["completion_tokens"]) == (
        "she sells",
        "length",
        0,
    )
    np.testing.assert_allclose(
        choice["logprobs"]["token_logprobs"][1:], alone["lstm"].logprobs("she sells"), atol=2e-5
    )


def test_a_seed_that_was_drawn_is_in_the_answer(served):
    first = served.ask(prompt="a", max_tokens=50).json()
    again = served.ask(prompt="a", max_tokens=50, seed=first["seed"]).json()
    assert again["choices"][0]["text"] == first["choices"][0]["text"]


def interleaved(served, alone, count: int, seed: int) -> None:
    """Random requests at the same time; every text must be what p2 generate writes."""
    rng = np.random.default_rng(seed)
    vocabulary = alone["lstm"].card.vocabulary

    def request() -> dict[str, object]:
        length = int(rng.choice([0, 1, 2, 30, 300]))
        fields = {
            "model": str(rng.choice(["lstm", "gru"])),
            "prompt": "".join(rng.choice([*vocabulary], length)),
            "max_tokens": int(rng.choice([0, 1, 5, 60, 250])),
            "seed": int(rng.integers(0, 5)),
            "n": int(rng.choice([1, 1, 2])),
            **[{}, {"temperature": 0.5}, {"tau": 0.7}, {"greedy": True}, {"temperature": 0}][rng.integers(5)],
            **[{}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.05}, {"top_k": 9, "top_p": 0.9}][
                rng.integers(5)
            ],
            **[{}, {"stop": ["e"]}, {"stop": ["qu", "ab"]}][rng.integers(3)],
        }
        return fields | {"stream": bool(rng.integers(2))}

    requests = [request() for _ in range(count)]

    def ask(fields: dict[str, object]) -> list[str]:
        if not fields["stream"]:
            return served.texts(**fields)
        found = dict.fromkeys(range(fields["n"]), "")
        for line in served.ask(**fields).text.split("\n\n"):
            if line.startswith("data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                found[choice["index"]] += choice["text"]
        return [*found.values()]

    with ThreadPoolExecutor(24) as pool:
        answers = [*pool.map(ask, requests)]
    for fields, found in zip(requests, answers, strict=True):
        settings = {name: value for name, value in fields.items() if name not in ("model", "stream")}
        prompt, count = settings.pop("prompt"), settings.pop("n")
        settings["length"] = settings.pop("max_tokens")
        wanted = alone[fields["model"]].texts([prompt], num_samples=count, **settings)
        assert found == [text.text for text in wanted], fields


def test_500_interleaved_requests_all_equal_p2_generate(served, alone):
    interleaved(served, alone, 500, seed=1)
