"""What CONTRIBUTING.md asks of tests and of the pages that name them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_NAME = 69
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# `tests/a/test_b.py::test_c`, and after it in the same paragraph or cell `test_d` and `::test_e` of that file.
NAMED = re.compile(r"(?P<file>tests/[\w/]+\.py)(?:::(?P<first>test_\w+))?|`(?:::)?(?P<next>test_\w+)`")


def _functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


@cache
def _tests(path: Path) -> set[str]:
    return {function.name for function in _functions(path) if function.name.startswith("test_")}


def _modules() -> Iterator[Path]:
    """Every module, from the root; what a package's `__init__` and `__main__` hold is tested through the package."""
    for package in ("engine", "sft_tui"):
        for path in (ROOT / package).rglob("*.py"):
            if not path.name.startswith("__"):
                yield path.relative_to(ROOT)


def test_every_module_has_its_test_file() -> None:
    missing = {str(module): Path("tests", module.parent, f"test_{module.name}") for module in _modules()}
    missing = {module: test for module, test in missing.items() if not (ROOT / test).is_file()}
    assert not missing, "\n".join(
        f"{test} is missing: the tests of {module}" for module, test in sorted(missing.items())
    )


def test_names_of_tests_are_short() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    assert not [f"{path}::{name}" for path in files for name in _tests(path) if len(name) > LONGEST_NAME]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    file = None
    for match in NAMED.finditer(page.read_text()):
        file = ROOT / match["file"] if match["file"] else file
        if file is None:
            continue  # `test_file` of docs/reference.md is a setting
        assert file.is_file(), f"{match[0]}: no such file"
        name = match["first"] or match["next"]
        assert not name or name in _tests(file), f"{match[0]}: {file.relative_to(ROOT)} has no such test"
