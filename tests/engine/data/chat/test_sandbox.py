"""Expressions of chat templates, of which none may keep the process from giving up its rendering."""

from functools import partial

import pytest

from engine.contract.messages import InputError
from engine.data.bounded import done_in_time
from engine.data.chat.templates import ChatTemplate
from engine.data.shapes.account import RefusedError
from tests.engine.data.chat.kinds import byte_tokenizer
from tests.engine.data.chat.stuck import LIMIT, give_up_once
from tests.processes import until

TALK = [{"role": "user", "content": "Hi"}]


def template(text: str) -> ChatTemplate:
    return ChatTemplate(byte_tokenizer(eos="</s>"), "model", text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 9 ** (9 ** 9) }}",
        "{{ messages | length ** messages | length }}{{ -3 ** 9999999999 }}",
        "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
        "{{ ('f' * 9999) | int(base=16) // 7 }}",
        "{{ ('f' * 9999) | int(base=16) is divisibleby(7) }}",
        "{{ 5 | round(-999999999) }}{{ 5 | round(999999999, 'ceil') }}",
    ],
)
def test_large_numbers_end_in_a_sentence(text: str) -> None:
    with pytest.raises(InputError) as refused:
        template(text).render(TALK, None, prompt=False)
    assert refused.value.message.code == "chat_template_bad"
    assert "4,096 bits" in refused.value.message.what()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
        ("{{ range(10 ** 9) | list }}", "Range too big"),
        ("{{ 9.0 ** 9999 }}", "out of range"),
    ],
)
def test_what_python_refuses_to_compute_is_the_reason(text: str, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        template(text).render(TALK, None, prompt=False)
    assert why in str(refused.value)


def test_the_sum_of_many_lists_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = template("{{ ([[0]] * 20000) | sum(start=[]) | length }}")
    give_up_once(lambda: bool(slow.at_work()), monkeypatch)
    with pytest.raises(InputError) as refused:
        done_in_time(partial(slow.render, TALK, None, prompt=False), "model", 0, slow.at_work)
    assert "may never end" in refused.value.message.what()
    until(lambda: not slow.at_work(), LIMIT)  # while it is, it limits the memory of this process


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("2 ** 8 * 3", "768"),
        ("1.5 * 2", "3.0"),
        ("2 ** -1", "0.5"),
        ("True ** 2", "1"),
        ("'-' * 3", "---"),
        ("7 // 2 + 7 % 4", "6"),
        ("'%s-%d' % ('a', 1)", "a-1"),
        ("8 is divisibleby 2", "True"),
        ("2.345 | round(2)", "2.35"),
        ("[1, 2] | sum + ([{'n': 3}] | sum(attribute='n'))", "6"),
    ],
)
def test_a_template_can_compute_with_usual_numbers(expression: str, shown: str) -> None:
    assert template("{{ " + expression + " }}").render(TALK, None, prompt=False) == shown
