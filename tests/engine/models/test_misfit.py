from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.models.misfit import require_fit

WANTED = {"a": (2, 3), "b": (3,), "c": (2, 3)}
SAME = [("a", "c", "alias")]  # one tensor; the alias is not among what is wanted


@pytest.mark.parametrize(
    "have", [WANTED, {"a": (2, 3), "b": (3,)}, {"c": (2, 3), "b": (3,)}, {"alias": (2, 3), "b": (3,)}], ids=str
)
def test_one_name_of_a_shared_tensor_is_enough(have: dict[str, tuple[int, ...]]) -> None:
    require_fit(Path("m.bin"), WANTED, SAME, have)


@pytest.mark.parametrize(
    ("have", "missing", "unexpected", "mismatched"),
    [
        ({"b": (3,)}, "a", "-", "-"),
        ({"a": (2, 3)}, "b", "-", "-"),
        ({**WANTED, "d": (1,)}, "-", "d", "-"),
        ({**WANTED, "b": (4,)}, "-", "-", "b"),
        ({"alias": (9, 9), "b": (3,)}, "-", "-", "a"),
        ({"d": (1,), "b": (1,)}, "a", "d", "b"),
    ],
)
def test_what_does_not_fit_is_named(
    have: dict[str, tuple[int, ...]], missing: str, unexpected: str, mismatched: str
) -> None:
    with pytest.raises(InputError) as refused:
        require_fit(Path("m.bin"), WANTED, SAME, have, {"d_model": 7})
    args = refused.value.message.args
    assert (args["missing"], args["unexpected"], args["mismatched"]) == (missing, unexpected, mismatched)
    assert args["d_model"] == 7
