"""Models on ModelScope."""

import pytest

from engine.contract.messages import InputError
from engine.obtaining import modelscope
from engine.obtaining.modelscope import ModelScope
from engine.obtaining.repository import Listing, RemoteFile
from tests.hub import COMMIT

pytestmark = pytest.mark.usefixtures("hub")


def test_a_listing_pins_the_newest_commit() -> None:
    found = ModelScope("me/tiny").listing()
    assert found.revision == COMMIT
    assert all(len(file.sha256) == 64 for file in found.files)


def test_a_listing_that_may_be_incomplete_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelscope, "MOST_FILES", 3)
    with pytest.raises(InputError) as error:
        ModelScope("me/tiny").listing()
    assert error.value.message.code == "hub_too_many"


def test_the_token_is_sent_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "authorization" not in ModelScope("me/tiny").headers()
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "abc")
    assert ModelScope("me/tiny").headers()["cookie"] == "m_session_id=abc"


def test_names_of_files_are_quoted() -> None:
    found = ModelScope("me/tiny", endpoint="https://hub")
    file = RemoteFile("a b&c.json", 1)
    assert found.url(Listing("v1", (file,)), file) == (
        "https://hub/api/v1/models/me/tiny/repo?Revision=v1&FilePath=a+b%26c.json"
    )
