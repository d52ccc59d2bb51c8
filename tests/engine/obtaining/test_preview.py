"""A model judged before its weights are downloaded."""

import json
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.obtaining.choice import chosen
from engine.obtaining.huggingface import HuggingFace
from engine.obtaining.preview import require_trainable
from tests.hub import Hub

pytestmark = pytest.mark.usefixtures("hub")


def judge(here: Path) -> None:
    repository = HuggingFace("me/tiny")
    listing = repository.listing()
    require_trainable(repository, listing, chosen(repository, listing), here)


def test_a_model_that_can_be_trained_passes(hub: Hub, tiny_t5: Path) -> None:
    judge(tiny_t5)
    assert [asked for asked in hub.asked if "safetensors" in asked[0]]


def test_a_refusal_names_the_model_and_not_a_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": -3}))
    with pytest.raises(InputError) as error:
        judge(tmp_path)
    assert error.value.message.code == "hub_untrainable"
    assert "me/tiny cannot be trained" in error.value.message.what()
    assert "/tmp" not in error.value.message.text()


def test_weights_that_are_not_such_are_refused(hub: Hub, tiny_t5: Path) -> None:
    hub.repos["me/tiny"].files["model.safetensors"] = b"\x80\x02 a pickle under another name"
    with pytest.raises(InputError) as error:
        judge(tiny_t5)
    assert "do not begin as a file of safetensors does" in error.value.message.what()
