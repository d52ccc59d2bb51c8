"""What a test cannot do without: where the project's own tests run in CI it has to be there."""

import os
from typing import TypeVar

import pytest

Found = TypeVar("Found")


def required(found: Found | None, what: str) -> Found:
    """What was found; if there is nothing the test fails in CI, and is skipped elsewhere."""
    if found is not None and found is not False:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and in CI nothing is left out")
    pytest.skip(f"NOT TESTED: {what} is missing")
