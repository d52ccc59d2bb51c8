"""What fails on the way to a hub, in words."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from engine.contract.messages import InputError
from engine.contract.requests import FetchRequest
from engine.obtaining import transfer
from engine.obtaining.fetching import fetch
from tests.hub import TOKEN, Hub

pytestmark = pytest.mark.usefixtures("hub")


def code(folder: Path, **how: Any) -> str:
    with pytest.raises(InputError) as error:
        fetch(FetchRequest("me/tiny", str(folder / "tiny"), **how), lambda *_: None)
    assert error.value.message.fix()
    assert not list(folder.iterdir())
    return error.value.message.code


@pytest.mark.parametrize(
    ("status", "said"), [(429, "hub_busy"), (500, "hub_failed"), (403, "hub_gated"), (404, "hub_missing")]
)
def test_an_answer_that_refuses_is_one_sentence(hub: Hub, tmp_path: Path, status: int, said: str) -> None:
    hub.status = status
    assert code(tmp_path) == said


def test_a_token_that_is_refused_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.status = 401
    assert code(tmp_path) == "hub_missing"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert code(tmp_path) == "hub_token"


def test_offline_mode_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert code(tmp_path) == "hub_offline"
    assert not hub.asked


def test_a_hub_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert code(tmp_path) == "hub_unreachable"


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1", "http://"])
def test_an_endpoint_that_is_not_an_address_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    assert code(tmp_path) == "hub_unreachable"


@pytest.mark.parametrize("answer", [[], "login", {"siblings": [3]}, {"id": "x", "siblings": None}, 7])
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_an_answer_that_is_not_a_hub_s_is_one_sentence(hub: Hub, tmp_path: Path, answer: object, source: Any) -> None:
    hub.answer = answer
    assert code(tmp_path, source=source) in ("hub_not_one", "hub_kind", "hub_revision")
