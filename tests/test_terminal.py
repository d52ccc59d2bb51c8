"""The emulator shows rows as a terminal would, also in the middle of a drawing."""

import pytest

from tests.terminal import shown


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["你", "", "a"], "你a"), (["", "b"], " b"), (["你", "x", "y"], " xy"), (["你", "", "", "z"], "你 z"),
        (["a", "你"], "a "), (["e\u0301", "好", ""], "e\u0301好"),
    ],
)  # fmt: skip
def test_half_of_a_wide_character_is_blank(cells: list[str], text: str) -> None:
    assert shown(cells) == text
