"""The pages that are made from the code."""

from pathlib import Path

import pytest

from bench.pages import ROOT, pages


@pytest.mark.parametrize(
    ("path", "text"), list(pages()), ids=lambda given: given.name if isinstance(given, Path) else ""
)
def test_generated_pages_match_the_code(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)}: make it again by `make docs`"
