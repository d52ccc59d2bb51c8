"""The index of transformers' models, which its import makes twice, of 1,600 files in half a second each: here once."""

import importlib
import sys
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import import_utils

Index = dict[frozenset[str], dict[str, set[str]]]  # by what the names need: module, and its names
MODELS = Path(transformers.__file__).parent / "models"


def below_models(index: Index) -> Index:
    """The index of the package `models` from that of the package around it."""
    return {
        needed: {name.removeprefix("models."): names for name, names in found.items() if name.startswith("models.")}
        for needed, found in index.items()
    }


def import_models() -> None:
    """Imports the package of all models with the index that the import of transformers has left."""
    if "transformers.models" in sys.modules:
        return
    library: Any = import_utils
    made = library.define_import_structure  # which keeps what it has returned, by its arguments

    def kept(path: Any, prefix: str | None = None) -> Any:
        if prefix is None and Path(path) == MODELS / "__init__.py":
            return below_models(made(MODELS, prefix="models"))
        return made(path, prefix)

    library.define_import_structure = kept
    try:
        importlib.import_module("transformers.models")
    finally:
        library.define_import_structure = made


import_models()
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast  # noqa: E402 - which import it

__all__ = ["AutoTokenizer", "PreTrainedTokenizerBase", "PreTrainedTokenizerFast"]
