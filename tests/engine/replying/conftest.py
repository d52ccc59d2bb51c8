import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(taught_t5: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with its tokenizer, as a run publishes its best."""
    best = tmp_path_factory.mktemp("model") / "best"
    shutil.copytree(taught_t5, best)
    shutil.copytree(tiny_tokenizer, best, dirs_exist_ok=True)
    return str(best)
