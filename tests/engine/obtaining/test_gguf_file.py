"""GGUF files as they are, and as somebody made them to harm."""

import struct
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.obtaining import gguf_file
from tests.gguf_files import MERGES, TOKENS, small_llama, write_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", small_llama(), kind="Q8_0").read_bytes()


def why(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        gguf_file.read(path)
    assert error.value.message.code == "gguf_bad"
    reason = error.value.message.args["why"]
    assert isinstance(reason, Phrase)
    assert reason.text("zh") != reason.key != reason.text("en")
    return reason.key


def header(version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_keys_and_tensors_are_read(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(whole)
    file = gguf_file.read(tmp_path / "x")
    assert file.architecture == "llama"
    assert file.tokens == TOKENS
    assert file.keys["tokenizer.ggml.merges"] == MERGES
    assert (file.own("block_count"), file.token("eos"), file.token("eot")) == (2, 2, None)
    assert file.quantized == ("Q8_0",)
    assert file.dtype == "bfloat16"
    shapes = {tensor.name: (tensor.kind, tensor.shape) for tensor in file.tensors}
    assert shapes["blk.0.ffn_up.weight"] == ("Q8_0", (96, 64))
    assert shapes["output_norm.weight"] == ("F32", (64,))
    assert file.parameters == sum(weight.numel() for weight in small_llama().parameters())


def test_several_kinds_of_floats_become_the_one_that_holds_all(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "x", small_llama(), kind="F16", more={"blk.0.wide.weight": [[1.0, 2.0]]})
    assert (gguf_file.read(file).dtype, gguf_file.read(file).quantized) == ("float32", ())


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.3, 0.6, 0.99, 0.9999])
def test_a_file_cut_short_is_refused(whole: bytes, tmp_path: Path, share: float) -> None:
    assert why(tmp_path / "x", whole[: max(5, int(len(whole) * share))]) in (
        "gguf.short", "gguf.counts", "gguf.tensors_cut",
    )  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"GG", b"PK\x03\x04" * 10, b"ggml" + b"\0" * 100])
def test_another_kind_of_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert why(tmp_path / "x", data) == "gguf.magic"


@pytest.mark.parametrize(("version", "key"), [(1, "version"), (99, "version"), (3 << 24, "big_endian")])
def test_unknown_versions_are_refused(tmp_path: Path, version: int, key: str) -> None:
    assert why(tmp_path / "x", header(version) + b"\0" * 100) == f"gguf.{key}"


ENDLESS = 2**60
BOMBS = {
    "keys": (header(keys=ENDLESS), "counts"),
    "tensors": (header(tensors=ENDLESS), "counts"),
    "a name": (header(keys=1) + struct.pack("<Q", ENDLESS), "short"),
    "a text": (header(keys=1) + text("a") + struct.pack("<IQ", 8, ENDLESS), "short"),
    "an array of bytes": (header(keys=1) + text("a") + struct.pack("<IIQ", 9, 0, ENDLESS), "counts"),
    "an array of texts": (header(keys=1) + text("a") + struct.pack("<IIQ", 9, 8, ENDLESS), "counts"),
    "arrays in arrays": (header(keys=1) + text("a") + struct.pack("<IIQ", 9, 9, 2) * 50, "numbers"),
    "an unknown type": (header(keys=1) + text("a") + struct.pack("<I", 77), "numbers"),
    "dimensions": (header(tensors=1) + text("a") + struct.pack("<I", 4_000_000), "numbers"),
    "a shape": (header(tensors=1) + text("a") + struct.pack("<IQQIQ", 2, ENDLESS, ENDLESS, 0, 0), "numbers"),
    "a shape of nothing": (header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, 0, 0, 0), "numbers"),
    "a kind": (header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, 32, 999, 0), "kind"),
    "half a block": (header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, 33, 8, 0), "numbers"),
    "a place": (header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, 32, 0, 2**50), "tensors_cut"),
    "an alignment": (header(keys=1) + text("general.alignment") + struct.pack("<II", 4, 0), "numbers"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_numbers_that_the_file_cannot_hold_are_refused_at_once(tmp_path: Path, bomb: str) -> None:
    data, key = BOMBS[bomb]
    assert why(tmp_path / "x", data + b"\0" * 200) == f"gguf.{key}"
