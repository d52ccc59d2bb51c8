"""Models on the Hugging Face Hub."""

import pytest

from engine.contract.messages import InputError
from engine.obtaining.huggingface import HuggingFace
from tests.hub import COMMIT, Hub, Repo

pytestmark = pytest.mark.usefixtures("hub")


def test_a_listing_has_the_hashes_of_all_files() -> None:
    found = HuggingFace("me/tiny").listing()
    assert found.revision == COMMIT
    assert found.licence == "apache-2.0"
    weights, config = found.file("model.safetensors"), found.file("config.json")
    assert weights is not None
    assert config is not None
    assert (len(weights.sha256), len(config.sha256), len(config.git_sha1)) == (64, 0, 40)


@pytest.mark.parametrize("said", ["me/base", ["me/base", "me/other"]])
def test_the_model_that_it_was_made_from_is_known(hub: Hub, said: object) -> None:
    hub.repos["me/tiny"].card = {"base_model": said, "license": "other", "license_name": "tiny-licence"}
    found = HuggingFace("me/tiny").listing()
    assert (found.base, found.licence) == ("me/base", "tiny-licence")


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_a_dataset_is_called_what_it_is(hub: Hub, kind: str) -> None:
    hub.repos["me/rows"] = Repo({"train.parquet": b""}, kind=f"{kind}s")
    with pytest.raises(InputError) as error:
        HuggingFace("me/rows").listing()
    assert f"me/rows is a {kind}" in error.value.message.what()
    assert f"{hub.url}/{kind}s/me/rows" in error.value.message.fix()
