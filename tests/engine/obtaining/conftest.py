"""A hub to download from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub import Hub, Repo, serving


@pytest.fixture(scope="session")
def model_files(tiny_t5: Path, tiny_tokenizer: Path) -> dict[str, bytes]:
    """The files of a small T5 with its tokenizer, and others that a repository has."""
    own = {path.name: path.read_bytes() for folder in (tiny_tokenizer, tiny_t5) for path in folder.iterdir()}
    more = {"README.md": b"# Tiny", "LICENSE": b"Apache-2.0", "modeling_tiny.py": b"raise SystemExit",
            "pytorch_model.bin": b"\x80\x02", "onnx/model.onnx": b"onnx", "picture.png": b"png"}  # fmt: skip
    return own | more


def take_for_theirs(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    """Makes huggingface_hub, which read its environment when it was imported, ask this hub."""
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with the model `me/tiny`, which huggingface_hub and ModelScope take for theirs."""
    with serving(Hub(repos={"me/tiny": Repo(dict(model_files), card={"license": "apache-2.0"})})) as hub:
        take_for_theirs(hub, monkeypatch)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield hub
