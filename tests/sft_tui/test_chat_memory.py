"""The memory that a model needs to reply, by its files."""

import json
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from sft_tui import chat_memory
from sft_tui.chat_memory import needed, require_room

WEIGHTS = 100_000_000


def model(folder: Path, **config: object) -> str:
    """A model of 100 MB."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(WEIGHTS)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "fast", "times"),
    [
        ({"model_type": "llama"}, False, 1),
        ({"model_type": "llama", "dtype": "bfloat16"}, True, 1),
        ({"model_type": "llama", "torch_dtype": "bfloat16"}, False, 2),
        ({"model_type": "t5", "dtype": "bfloat16"}, True, 2),
        ({"model_type": "t5", "dtype": ["bfloat16"]}, True, 1),
    ],
)
def test_weights_in_16_bits_may_be_held_in_32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, object], fast: bool, times: int
) -> None:
    monkeypatch.setattr(chat_memory, "multiplies_bf16", lambda: fast)
    more = needed(model(tmp_path / "model", **config)) - needed(str(tmp_path / "missing"))
    assert more == pytest.approx(times * WEIGHTS * chat_memory.REPLYING)


def test_a_model_with_room_is_let_through_and_another_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "model")
    monkeypatch.setattr(chat_memory, "available", lambda: 10**10)
    require_room(folder)
    monkeypatch.setattr(chat_memory, "available", lambda: 3 * WEIGHTS)
    with pytest.raises(InputError, match=r"300\.00 MB"):
        require_room(folder)


def test_what_is_free_is_known_here() -> None:
    assert chat_memory.available() > 0


def test_a_config_that_is_no_json_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1")
    assert needed(str(tmp_path)) == chat_memory.RUNTIME
