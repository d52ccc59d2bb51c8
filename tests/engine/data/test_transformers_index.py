"""What is imported in place of what transformers would make is the same."""

import sys
from typing import Any

import pytest
import transformers
from transformers.utils import import_utils

from engine.data.transformers_index import MODELS, below_models, import_models


def test_it_is_the_index_that_transformers_would_make() -> None:
    index: Any = import_utils.define_import_structure
    made = index(str(MODELS / "__init__.py"))
    assert sum(map(len, made.values())) > 1000
    assert below_models(index(MODELS, prefix="models")) == made


def test_models_are_imported_with_the_index_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    made: Any = import_utils.define_import_structure

    def noted(path: Any, prefix: str | None = None) -> Any:
        asked.append(prefix)
        return made(path, prefix=prefix)

    monkeypatch.setattr(import_utils, "define_import_structure", noted)
    monkeypatch.setattr(transformers, "models", transformers.models)
    monkeypatch.delitem(sys.modules, "transformers.models")
    import_models()
    assert asked == ["models"]  # of which the library keeps what it found
    assert import_utils.define_import_structure is noted
    assert "albert" in dir(sys.modules["transformers.models"])
