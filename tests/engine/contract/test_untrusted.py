import pytest

from engine.contract.untrusted import one_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a\nb   c"), "a b c"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 999), "x" * 300),
        (OSError(28, "No space left on device", "out/.tmp-sft-best-12"), "No space left on device"),
    ],
)
def test_an_error_is_one_line(error: Exception, expected: str) -> None:
    assert one_line(error) == expected
