import pytest

from engine.contract.untrusted import one_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("a\nb   c"), "a b c"), (KeyError(), "KeyError"), (ValueError("x" * 999), "x" * 300)],
)
def test_an_error_is_one_line(error: Exception, expected: str) -> None:
    assert one_line(error) == expected
