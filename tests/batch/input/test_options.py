"""Options for all lines: typed by what they are, and never misspelt in silence."""

import pytest
from msgspec import Raw

from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.options import JobOptions, job_options, read_params


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("temperature=0.2", "temperature", 0.2),
        ("temperature=1", "temperature", 1.0),
        ("temperature = 0", "temperature", 0.0),
        ("seed=7", "seed", 7),
        ("logprobs=true", "logprobs", True),
        ("stop=END", "stop", "END"),
        ("stop=7", "stop", "7"),
        ('stop="7"', "stop", "7"),
        ('stop=["a", "b"]', "stop", ("a", "b")),
        ("stop=a=b", "stop", "a=b"),
        ("user=", "user", ""),
        ("reasoning_effort=low", "reasoning_effort", "low"),
        ("tool_choice=auto", "tool_choice", Raw(b'"auto"')),
        ('response_format={"type": "json_object"}', "response_format", Raw(b'{"type":"json_object"}')),
    ],
)
def test_known_options_are_typed(text: str, name: str, value: object) -> None:
    options = read_params([text])
    assert options == JobOptions({name: value}, {})
    assert type(options.known[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("top_k=40", "top_k", b"40"),
        ('chat_template_kwargs={"think": false}', "chat_template_kwargs", b'{"think":false}'),
        ("zebra=stripes", "zebra", b'"stripes"'),
    ],
)
def test_others_travel_as_they_are(text: str, name: str, value: bytes) -> None:
    assert read_params([text]) == JobOptions({}, {name: Raw(value)})


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["temprature=0"], "unknown option temprature; did you mean temperature?"),
        (["topk=40"], "unknown option topk; did you mean top_k?"),
        (["frequency_penality=1"], "did you mean frequency_penalty?"),
        (["temperature=warm"], "option temperature is 'warm': Expected `float | null`, got `str`"),
        (["seed=1.5"], "option seed is '1.5'"),
        (["response_format=json_object"], "option response_format is 'json_object': Expected `object`"),
        (["tools={}"], "option tools"),
        (["temperature"], "option 'temperature': write name=value, such as temperature=0.2"),
        (["=1"], "write name=value"),
        (["seed=1", "seed=2"], "option seed is given twice"),
        (["model=x"], "option model is chosen by --model"),
        (["max_tokens=5"], "option max_tokens bounds all lines by its own option: --max-tokens"),
        (["n=2"], "a line gets one answer"),
        (["stream=true"], "it is how greenroom asks"),
    ],
)
def test_what_is_no_option_says_what_would_be(texts: list[str], said: str) -> None:
    with pytest.raises(BadInput) as bad:
        read_params(texts)
    assert said in str(bad.value)


def test_values_of_an_embedding_program() -> None:
    assert job_options({"temperature": 1, "top_k": 3}) == JobOptions(
        {"temperature": 1.0}, {"top_k": Raw(b"3")}
    )
    with pytest.raises(BadInput, match="option zebra cannot be written as JSON"):
        job_options({"zebra": object()})
    with pytest.raises(BadInput, match="option seed is '7'"):
        job_options({"seed": "7"})


def test_one_choice_of_options_is_one_text() -> None:
    assert read_params([]).as_json is None
    one = read_params(["seed=7", "top_k=3", "temperature=1"])
    other = read_params(["temperature=1.0", "seed=7", "top_k=3"])
    assert one.as_json == other.as_json == '{"seed":7,"temperature":1.0,"top_k":3}'
