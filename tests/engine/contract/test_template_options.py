"""Options of chat templates, as people write them."""

import pytest

from engine.contract.messages import InputError
from engine.contract.template_options import parsed_options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (" , ", {}),
        ("enable_thinking=false", {"enable_thinking": False}),
        ("enable_thinking = False, depth=3,x=0.5", {"enable_thinking": False, "depth": 3, "x": 0.5}),
        ("date=1 May 2025", {"date": "1 May 2025"}),
        ('who="a, b"', {"who": "a, b"}),
        ('names=["a", "b"], more={"c": [1, 2]}', {"names": ["a", "b"], "more": {"c": [1, 2]}}),
        ("a=1;b", {"a": "1;b"}),
        ("equation=a=b", {"equation": "a=b"}),
        ("nothing=null,python=None", {"nothing": None, "python": None}),
    ],
)
def test_options_are_json_or_text(text: str, options: dict[str, object]) -> None:
    assert parsed_options(text) == options


@pytest.mark.parametrize("text", ["thinking", "=1", "a b=1", "1a=2", "a=1,a=2", "tools=[]", "messages=1", "_x=1"])
def test_what_is_not_an_option_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed_options(text)
    assert refused.value.message.code == "template_options_bad"
    assert str(refused.value.message.args["part"]) in text
