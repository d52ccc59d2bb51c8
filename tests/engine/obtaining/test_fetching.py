"""A model downloaded from a hub on the loopback."""

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import T5ForConditionalGeneration

from engine.contract.messages import InputError
from engine.contract.model_reports import FetchedReport
from engine.contract.requests import FetchRequest
from engine.models.checksums import verify
from engine.models.registry import opened
from engine.obtaining import staging, transfer
from engine.obtaining.fetching import fetch
from tests.engine.obtaining.conftest import take_for_theirs
from tests.hub import COMMIT, TOKEN, Hub, Repo, safetensors, serving

pytestmark = pytest.mark.usefixtures("hub")


def got(folder: Path, id: str = "me/tiny", **how: Any) -> FetchedReport:
    return fetch(FetchRequest(id, str(folder), **how), lambda *_: None)


def refused(folder: Path, id: str = "me/tiny", **how: Any) -> InputError:
    with pytest.raises(InputError) as error:
        got(folder, id, **how)
    return error.value


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits before it tries again, and files arrive in small pieces."""
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "PIECE", 1000)


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_model_is_downloaded_whole_without_code_and_pickles(tmp_path: Path, source: Any) -> None:
    report = got(tmp_path / "models/tiny", source=source)
    names = {path.name for path in (tmp_path / "models/tiny").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "LICENSE", "README.md"} <= names
    assert not names & {"modeling_tiny.py", "pytorch_model.bin", "picture.png", "onnx"}
    assert report.left_out == {"code": 1, "weights": 2, "other": 1}
    assert report.revision == COMMIT
    assert opened(tmp_path / "models/tiny")[0].fits({"model_type": "t5"})
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]  # nothing unfinished is left


def test_its_hashes_are_kept_for_sha256sum_and_for_the_check(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    got(folder)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert verify([folder / "model.safetensors"], tmp_path / "notes", lambda *_: None) == "sha256"
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError) as error:
        verify([folder / "model.safetensors"], tmp_path / "notes", lambda *_: None)
    assert error.value.message.code == "model_hash"


def test_its_folder_names_where_it_came_from(hub: Hub, tmp_path: Path) -> None:
    got(tmp_path / "tiny", revision="main")
    said = json.loads((tmp_path / "tiny/SOURCE.json").read_text())
    assert (said["id"], said["revision"], said["asked"], said["endpoint"]) == ("me/tiny", COMMIT, "main", hub.url)
    assert said["licence"] == "apache-2.0"


def test_a_broken_connection_continues_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.cuts["model.safetensors"] = [5000, -1, 50_000]  # the header is read first
    report = got(tmp_path / "tiny")
    assert report.downloaded == report.bytes
    ranges = [asked for path, asked in hub.asked if path == "/cdn/me/tiny/model.safetensors" and asked]
    assert ranges == ["bytes=50000-"]


class Killed(BaseException):
    """The end of a process."""


def test_an_interrupted_download_continues_and_is_no_model_before(hub: Hub, tmp_path: Path) -> None:
    half = len(hub.repos["me/tiny"].files["model.safetensors"]) // 2

    def watch(name: str, done: int, _total: int) -> None:
        if name == "model.safetensors" and done > half:
            raise Killed

    with pytest.raises(Killed):
        fetch(FetchRequest("me/tiny", str(tmp_path / "tiny")), watch)
    assert not (tmp_path / "tiny").exists()
    report = got(tmp_path / "tiny")
    assert 0 < report.downloaded < report.bytes - half + 1000
    assert verify([tmp_path / "tiny/model.safetensors"], tmp_path / "notes", lambda *_: None) == "sha256"


def test_a_damaged_part_is_fetched_again_from_its_start(hub: Hub, tmp_path: Path) -> None:
    file = staging.Staging(tmp_path / "tiny")
    digest = hub_digest(hub)
    file.path.mkdir()
    (file.path / f"model.safetensors.{digest[:16]}.part").write_bytes(b"\0" * 3000)
    got(tmp_path / "tiny")
    assert (tmp_path / "tiny/model.safetensors").read_bytes() == hub.repos["me/tiny"].files["model.safetensors"]


def hub_digest(hub: Hub) -> str:
    return hashlib.sha256(hub.repos["me/tiny"].files["model.safetensors"]).hexdigest()


def test_a_server_that_cannot_continue_sends_the_whole_file(hub: Hub, tmp_path: Path) -> None:
    hub.cuts["model.safetensors"], hub.ignores_range = [-1, 100_000], True
    got(tmp_path / "tiny")
    assert (tmp_path / "tiny/model.safetensors").read_bytes() == hub.repos["me/tiny"].files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])  # by SHA-256, and by the hash of Git
def test_a_file_that_arrives_changed_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.damaged.add(name)
    error = refused(tmp_path / "tiny")
    assert (error.message.code, error.message.args["file"]) == ("hub_hash", name)
    assert not (tmp_path / "tiny").exists()


def test_another_revision_is_not_mixed_with_what_was_begun(hub: Hub, tmp_path: Path) -> None:
    hub.damaged.add("model.safetensors")
    refused(tmp_path / "tiny")
    hub.damaged.clear()
    repo = hub.repos["me/tiny"]
    repo.files = {**repo.files, "tokenizer_config.json": b'{"new": 1}'}
    del repo.files["LICENSE"]
    got(tmp_path / "tiny")
    assert (tmp_path / "tiny/tokenizer_config.json").read_bytes() == b'{"new": 1}'
    assert not (tmp_path / "tiny/LICENSE").exists()


def test_a_mirror_below_a_path_is_used_throughout(hub: Hub, tmp_path: Path, model_files: dict[str, bytes]) -> None:
    with serving(Hub(repos={"me/tiny": Repo(model_files)}, prefix="/mirror")) as mirror:
        with pytest.MonkeyPatch.context() as patch:
            take_for_theirs(mirror, patch)
            assert got(tmp_path / "tiny").endpoint == mirror.url
        assert all(path.startswith("/mirror/") for path, _ in mirror.asked)
    assert not hub.asked


def test_a_model_with_terms_needs_the_token_of_an_account(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["me/tiny"].gated = True
    assert refused(tmp_path / "tiny").message.code == "hub_gated"
    assert list(tmp_path.glob(".tmp-sft-*")) == []
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert refused(tmp_path / "tiny").message.code == "hub_gated_account"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert got(tmp_path / "tiny").files


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_private_model_looks_as_if_it_did_not_exist(hub: Hub, tmp_path: Path, source: Any) -> None:
    hub.repos["me/tiny"].private = True
    error = refused(tmp_path / "tiny", source=source)
    assert error.message.code == "hub_missing"
    assert ("HF_TOKEN" if source == "huggingface" else "MODELSCOPE_API_TOKEN") in error.message.fix()


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_an_unknown_revision_is_named(tmp_path: Path, source: Any) -> None:
    error = refused(tmp_path / "tiny", revision="v9", source=source)
    assert (error.message.code, error.message.args["revision"]) == ("hub_revision", "v9")


def test_a_model_that_is_there_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    first = got(tmp_path / "tiny")
    hub.asked.clear()
    assert got(tmp_path / "tiny") == replace(first, downloaded=0, existed=True)
    assert not hub.asked
    assert refused(tmp_path / "tiny", revision="v2").message.code == "model_revision"
    assert refused(tmp_path / "tiny", id="me/other").message.code == "model_place_taken"


@pytest.mark.parametrize("thing", ["folder", "file", "link"])
def test_something_else_is_never_overwritten(hub: Hub, tmp_path: Path, thing: str) -> None:
    place = tmp_path / "tiny"
    if thing == "folder":
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    elif thing == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    assert refused(place).message.code == "model_place_taken"
    assert not hub.asked


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert got(tmp_path / "tiny").files
    assert (tmp_path / "tiny/config.json").is_file()


def test_two_downloads_of_one_model_do_not_meet(tmp_path: Path) -> None:
    with staging.Staging(tmp_path / "tiny").held():
        assert refused(tmp_path / "tiny").message.code == "model_being_made"


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "free_bytes", lambda _: 1000)
    assert refused(tmp_path / "tiny").message.code == "model_no_space"
    assert not hub.paths("resolve")


def test_a_model_that_cannot_be_trained_is_refused_by_its_header(hub: Hub, tmp_path: Path) -> None:
    layers = {"bert.embeddings.word_embeddings.weight": ("F32", (300, 4), 4800),
              "bert.encoder.layer.0.attention.self.query.weight": ("F32", (4, 4), 64)}  # fmt: skip
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 300, "hidden_size": 4}
    hub.repos["me/bert"] = Repo({"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(layers)})
    error = refused(tmp_path / "models/bert", "me/bert")
    assert error.message.code == "hub_kind"
    assert "me/bert is an encoder alone" in error.message.what()
    assert not (tmp_path / "models").exists()


def test_quantized_weights_are_refused_by_their_header(hub: Hub, tmp_path: Path, model_files: dict[str, bytes]) -> None:
    packed = safetensors({"decoder.block.0.weight": ("I8", (64, 64), 4096)})
    hub.repos["me/int8"] = Repo({**model_files, "model.safetensors": packed})
    assert "quantized" in refused(tmp_path / "int8", "me/int8").message.what()


def test_a_model_in_parts_is_downloaded_whole(hub: Hub, tmp_path: Path, tiny_t5: Path) -> None:
    T5ForConditionalGeneration.from_pretrained(tiny_t5).save_pretrained(tmp_path / "parts", max_shard_size="60KB")
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert sum(name.endswith(".safetensors") for name in parts) > 1
    hub.repos["me/parts"] = Repo(parts)
    got(tmp_path / "got", "me/parts")
    assert opened(tmp_path / "got")[1].tensors.keys() == opened(tmp_path / "parts")[1].tensors.keys()
    del parts[max(name for name in parts if name.endswith(".safetensors"))]
    hub.repos["me/holes"] = Repo(parts)
    assert refused(tmp_path / "holes", "me/holes").message.code == "hub_part_missing"


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_the_token_does_not_follow_to_another_host(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any
) -> None:
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    with serving(Hub(repos=hub.repos)) as other:
        hub.elsewhere = other.url
        assert got(tmp_path / "tiny", source=source).files
    assert other.paths("model.safetensors")
    assert not any(other.secrets)
    assert all(TOKEN in secret for secret in hub.secrets)


@pytest.mark.parametrize("elsewhere", ["file:///etc", "ftp://127.0.0.1", "data:,"])
def test_a_redirect_away_from_the_web_is_not_followed(hub: Hub, tmp_path: Path, elsewhere: str) -> None:
    hub.elsewhere = elsewhere
    assert refused(tmp_path / "tiny").message.code == "hub_unreachable"
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_does_not_end_is_not_taken_further_than_its_size(
    hub: Hub, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(transfer._Counted, "write", _counting(taken, transfer._Counted.write))
    hub.endless.add(name)
    error = refused(tmp_path / "tiny")
    assert (error.message.code, error.message.args["file"]) == ("hub_hash", name)
    assert sum(taken) <= sum(map(len, hub.repos["me/tiny"].files.values()))


def _counting(taken: list[int], write: Any) -> Any:
    def count(self: Any, data: bytes) -> int:
        done: int = write(self, data)
        taken.append(done)
        return done

    return count


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_without_hashes_nothing_that_was_begun_is_continued(hub: Hub, tmp_path: Path, source: Any) -> None:
    hub.unhashed = True
    hub.cuts["model.safetensors"] = [-1]
    begun = staging.Staging(tmp_path / "tiny")
    begun.path.mkdir()
    size = len(hub.repos["me/tiny"].files["model.safetensors"])
    for name, data in (("model.safetensors", b"\0" * size), ("tokenizer.json..part", b"{")):
        (begun.path / name).write_bytes(data)
    got(tmp_path / "tiny", source=source)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "tiny" / name).read_bytes() == hub.repos["me/tiny"].files[name]


@pytest.mark.parametrize(
    "wrong", [{"size": "5"}, {"size": -5}, {"blobId": "/../../../x"}, {"blobId": 7}, {"rfilename": 3}]
)
def test_a_listing_of_wrong_kinds_is_no_hub_s(hub: Hub, tmp_path: Path, wrong: dict[str, object]) -> None:
    siblings = [{"rfilename": "config.json", "size": 2, "blobId": "0" * 40, **wrong}]
    hub.answer = {"id": "me/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
    assert refused(tmp_path / "tiny").message.code == "hub_not_one"
