"""Prompts from fields: strict about names, told where they are wrong, and the same at any time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.batch.input import templates
from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.templates import check, is_template, render


@given(st.text(max_size=30))
def test_plain_text_stays_as_it_is(text: str) -> None:
    if not is_template(text):
        check(text, "--prompt", [])
        assert render(text, {}) == text


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("Classify: {{ text }}", {"text": "a"}, "Classify: a"),
        ("{{ text }}\n", {"text": "<b>&\n"}, "<b>&\n\n"),
        ("{{ text }}", {"text": "{{ other }}"}, "{{ other }}"),
        ('{{ fields["Ticket text"] }}', {"Ticket text": "a"}, "a"),
        ("{{ fields }}", {"fields": "mine"}, "mine"),
        ("{{ n }} {{ x }} {{ t }} {{ z }}", {"n": 1, "x": 1.5, "t": True, "z": None}, "1 1.5 true null"),
        ("{{ tags }} {{ who.name }}", {"tags": ["a", "ü"], "who": {"name": "b"}}, '["a","ü"] b'),
        ("{% for t in tags %}- {{ t }}\n{% endfor %}", {"tags": ["a", "b"]}, "- a\n- b\n"),
        ("{% if n > 1 %}many{% endif %}{# note #}", {"n": 2}, "many"),
        ("{{ text | upper | trim }}", {"text": " a "}, "A"),
        ("{{ missing | default('none') }}", {"a": 1}, "none"),
        ("{{ 'a' * 3 }} {{ 7 // 2 }}", {}, "aaa 3"),
    ],
)
def test_rendering(template: str, values: dict[str, object], expected: str) -> None:
    assert render(template, values) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Say {{ text }", "--prompt, line 1, column 13: unexpected '}'"),
        ("Say\n\n  {{ text | shout }}", "--prompt, line 3, column 13: No filter named 'shout'."),
        ("Say\n{% if x %}", "--prompt, line 2, column 9: Unexpected end of template"),
        ("{% nonsense %}", "--prompt, line 1, column 4: Encountered unknown tag 'nonsense'."),
        ("a {{ ? }}", "--prompt, line 1, column 6: unexpected char '?'"),
        (
            "{{ text }} {{ text text }}",
            "--prompt, line 1, column 20: expected token 'end of print statement'",
        ),
        ("{{- text -}}  {{ 'text' 'more }}", '--prompt, line 1, column 25: unexpected char "\'"'),
    ],
)
def test_what_is_no_template_says_line_and_column(template: str, said: str) -> None:
    with pytest.raises(BadInput) as bad:
        check(template, "--prompt")
    assert said in str(bad.value)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Say\n{{ txet }}", "--prompt, line 2, column 4: the input has no field 'txet'; did you mean text?"),
        ("{{ a }}{{ id }}", "line 1, column 4: the input has no field 'a'; there are: id, text, Ticket text"),
        ("{{ Ticket_text }}", 'did you mean fields["Ticket text"]?'),
    ],
)
def test_a_column_that_there_is_not_is_told_before_any_row(template: str, said: str) -> None:
    with pytest.raises(BadInput) as bad:
        check(template, "--prompt", ["id", "text", "Ticket text"])
    assert said in str(bad.value)


@pytest.mark.parametrize(
    "template", ["{{ id }}", "{% set a = id %}{{ a }}", "{{ range(3) | list }}", '{{ fields["x"] }}']
)
def test_names_that_there_are(template: str) -> None:
    check(template, "--prompt", ["id"])


@pytest.mark.parametrize(
    ("template", "values", "said"),
    [
        ("{{ txet }}", {"text": "a"}, "it has no field 'txet'; did you mean text?"),
        ('{{ fields["Txt"] }}', {"Text": "a"}, "it has no field 'Txt'; did you mean Text?"),
        ("{{ who.nmae }}", {"who": {"name": "b"}}, "it has no field 'nmae'"),
        ("{{ x }}", {}, "there are: none"),
        ("{{ 1 / n }}", {"n": 0}, "cannot be followed: division by zero"),
        ("{{ n + 'a' }}", {"n": 0}, "cannot be followed: unsupported operand"),
        ("{{ ''.__class__.__mro__ }}", {}, "access to attribute '__class__'"),
        ("{{ range(10 ** 9) | list }}", {}, "Range too big"),
        ("{{ tags.append(1) }}", {"tags": [0]}, "access to attribute 'append' of 'list' object is unsafe"),
    ],
)
def test_what_a_line_cannot_fill_says_why(template: str, values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as refused:
        render(template, values)
    assert said in str(refused.value)


@pytest.mark.parametrize("template", ["{{ lipsum() }}", "{{ [1, 2, 3] | random }}"])
def test_chance_has_no_place(template: str) -> None:
    with pytest.raises((BadInput, ValueError)):
        check(template, "--prompt", ["x"])


def test_a_text_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 characters"):
        render("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", {})


_PIECES = (
    "{{", "}}", "{%", "%}", "{#", "#}", "if ", "for ", "x in ", "endif", "endfor", "text", "fields", "|upper", ".a",
    "['a b']", "(", ")", "+", "*", "1", "'", '"', "\n", "-", "set ", "macro", "import ", "include ", "range(3)", "raw",
    "endraw", "block ", "extends ", "call ", "~", "is ", "not ", "loop.index", "caller()", "é", "\0",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=10).map("".join), st.booleans())
def test_whatever_is_written_is_a_text_or_told(template: str, is_csv: bool) -> None:  # noqa: FBT001 - hypothesis hands it by position
    values = {"text": "v", "a b": 1}
    try:
        check(template, "--prompt", values if is_csv else None)
        assert isinstance(render(template, values), str)
    except (BadInput, ValueError) as error:
        assert str(error)  # noqa: PT017 - either is right, anything else is not
