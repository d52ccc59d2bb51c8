"""Valid files, each broken in one way, with the finding that must result."""

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from tests.engine.models.families import saved


@dataclass
class Files:
    """The files of a run, as settings."""

    folder: Path
    settings: dict[str, Any]

    def path(self, name: str) -> Path:
        """The file or folder of a setting."""
        return Path(self.settings[name])

    def rows(self, name: str = "train_file") -> list[dict[str, Any]]:
        """The rows of a data file."""
        found: list[dict[str, Any]] = pq.read_table(self.path(name)).to_pylist()
        return found

    def write(self, rows: list[dict[str, Any]], name: str = "train_file", **how: Any) -> None:
        """Writes the rows of a data file."""
        schema = pa.schema([("prompt", pa.string()), ("response", pa.string())])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.path(name), **how)

    def change(self, name: str, **values: Any) -> None:
        """Puts values into a JSON file of the model or the tokenizer; None takes one out."""
        path = self.folder / name
        whole = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in whole.items() if value is not None}))


Break = Callable[[Files], Any]  # settings to change in addition to what it did, if any


class Case(NamedTuple):
    """One inmate: what is broken, and what must be found."""

    name: str
    broken: Break
    code: str
    subject: str
    level: str = "error"


BROKEN: list[Case] = []
CONFIG = "pretrained_model/config.json"
WEIGHTS = "pretrained_model/model.safetensors"


def case(code: str, subject: str, level: str = "error", name: str = "") -> Callable[[Break], Break]:
    """Registers a function that breaks something."""

    def add(broken: Break) -> Break:
        BROKEN.append(Case(name or broken.__name__, broken, code, subject, level))
        return broken

    return add


# --- files that are not there, or are something else


def _removed(setting: str) -> Break:
    return lambda _files: {setting: "nowhere/at/all"}


def _in_its_place(setting: str, make: Callable[[Path], Any]) -> Break:
    def broken(files: Files) -> None:
        files.path(setting).unlink()
        make(files.path(setting))

    return broken


for _setting in ("train_file", "validation_file", "tokenizer", "pretrained_model"):
    case("file_missing", _setting, name=f"no {_setting}")(_removed(_setting))
for _setting in ("train_file", "validation_file"):
    case("file_unreadable", _setting, name=f"a folder as {_setting}")(_in_its_place(_setting, Path.mkdir))
    case("file_unreadable", _setting, name=f"a pipe as {_setting}")(_in_its_place(_setting, os.mkfifo))


@case("file_unreadable", "pretrained_model")
def a_device_as_model(_files: Files) -> dict[str, Any]:
    return {"pretrained_model": "/dev/zero"}


@case("file_unreadable", "train_file")
def a_device_as_rows(_files: Files) -> dict[str, Any]:
    return {"train_file": "/dev/null"}


# --- Parquet


def _bytes(change: Callable[[bytearray], Any], setting: str = "train_file", **how: Any) -> Break:
    def broken(files: Files) -> None:
        files.write(files.rows(setting), setting, write_page_checksum=True, **how)
        data = bytearray(files.path(setting).read_bytes())
        change(data)
        files.path(setting).write_bytes(data)

    return broken


def _cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def _flip(data: bytearray) -> None:
    data[60] ^= 1


def _huge_footer(data: bytearray) -> None:
    data[-8:-4] = struct.pack("<I", 1 << 30)


for _name, _change in {
    "cut in half": _cut,
    "a flipped bit in a page": _flip,
    "a footer that cannot be": _huge_footer,
    "without its last byte": lambda data: data.pop(),
    "without its first byte": lambda data: data.pop(0),
    "empty": lambda data: data.clear(),
}.items():
    case("parquet_bad", "train_file", name=f"rows: {_name}")(_bytes(_change))
case("source_foreign", "train_file", name="rows: zeros")(
    _bytes(lambda data: data.__setitem__(slice(None), bytes(len(data))))
)


def _csv(data: bytearray) -> None:
    data[:] = b"prompt,response\na,b\n"


case("not_parquet", "train_file", name="rows: a CSV under its name")(_bytes(_csv))
case("parquet_bad", "validation_file", name="validation rows cut in half")(_bytes(_cut, "validation_file"))


@case("column_missing", "train_file")
def other_columns(files: Files) -> None:
    pq.write_table(pa.table({"q": ["a"], "a": ["b"]}), files.path("train_file"))


@case("column_missing", "validation_file")
def other_columns_in_validation(files: Files) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "answer": ["b"]}), files.path("validation_file"))


for _kind, _values in {
    "numbers": [1, 2],
    "bytes": [b"a", b"b"],
    "lists": [["a"], ["b"]],
    "nulls": [None, None],
}.items():

    def _typed(files: Files, values: Any = _values) -> None:
        pq.write_table(pa.table({"prompt": ["a", "b"], "response": values}), files.path("train_file"))

    case("column_not_text", "train_file", name=f"responses are {_kind}")(_typed)


# --- rows


@case("rows_none", "train_file")
def no_rows(files: Files) -> None:
    files.write([])


@case("rows_none", "validation_file")
def no_validation_rows(files: Files) -> None:
    files.write([], "validation_file")


@case("rows_all_empty", "train_file")
def all_rows_empty(files: Files) -> None:
    files.write([{"prompt": " ", "response": None}] * 20)


def _with(*rows: dict[str, Any], setting: str = "train_file") -> Break:
    return lambda files: files.write([*files.rows(setting), *rows], setting)


ROWS: dict[str, dict[str, Any]] = {
    "null": {"prompt": None, "response": "你好"},
    "empty": {"prompt": "你好", "response": ""},
    "blank": {"prompt": "\u3000\n", "response": "你好"},
}
for _name, _row in ROWS.items():
    case("rows_dropped", "train_file", "warning", f"a {_name} row")(_with(_row))


@case("rows_dropped", "train_file", "warning")
def bytes_that_are_no_text(files: Files) -> None:
    rows = files.rows()
    columns = {
        name: pa.array([row[name].encode() for row in rows] + [b"\xff\xfe"], pa.binary()).view(pa.string())
        for name in ("prompt", "response")
    }
    pq.write_table(pa.table(columns), files.path("train_file"))


@case("rows_duplicate", "train_file", "warning")
def repeated_rows(files: Files) -> None:
    files.write([*files.rows(), *files.rows()[:3]])


@case("rows_overlap", "validation_file", "warning")
def validation_rows_trained_on(files: Files) -> None:
    files.write([*files.rows("validation_file"), files.rows()[0]], "validation_file")


@case("rows_few", "train_file", "warning")
def fewer_rows_than_a_step(files: Files) -> dict[str, Any]:
    files.write(files.rows()[:3])
    return {"gradient_accumulation_steps": 8}


for _char in ("\x00", "\x1b", "\x7f", "\x9b", "\u202e"):
    case("text_control", "train_file", "warning", f"U+{ord(_char):04X} in a row")(
        _with({"prompt": f"你{_char}好", "response": "你好"})
    )
case("text_control", "validation_file", "warning", "ESC in a validation row")(
    _with({"prompt": "你好", "response": "\x1b[2J你好"}, setting="validation_file")
)
case("text_replacement", "train_file", "warning", "U+FFFD in a row")(_with({"prompt": "\ufffd好", "response": "你好"}))


@case("rows_truncated", "train_file", "warning")
def longer_than_the_limit(_files: Files) -> dict[str, Any]:
    return {"max_seq_len": 4}


@case("unknown_tokens", "train_file")
def another_language_than_the_tokenizers(files: Files) -> None:
    files.write([{"prompt": f"нет {i}", "response": "Привет, мир"} for i in range(40)])


@case("script_differs", "validation_file", "warning")
def validation_in_another_language(files: Files) -> None:
    files.write([{"prompt": f"what is {i}", "response": "an answer"} for i in range(9)], "validation_file")


@case("labels_empty", "train_file", "warning")
def responses_that_the_tokenizer_drops(files: Files) -> None:
    path = files.folder / "tokenizer/tokenizer.json"
    whole = json.loads(path.read_text())
    whole["normalizer"] = {"type": "Replace", "pattern": {"String": "呢"}, "content": ""}
    path.write_text(json.dumps(whole))
    files.write([*files.rows(), {"prompt": "你好", "response": "呢"}])


# --- the model's folder


def _written(name: str, content: bytes | str) -> Break:
    return lambda files: (
        (files.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def _changed(name: str, **values: Any) -> Break:
    return lambda files: files.change(name, **values)


for _name, _break in {
    "a configuration that is no JSON": _written(CONFIG, "{"),
    "a configuration that is a list": _written(CONFIG, "[]"),
    "a configuration nested deep": _written(CONFIG, "[" * 200_000),
    "a configuration of 11 MB": _written(CONFIG, '{"a": "' + "x" * 11_000_000 + '"}'),
    "foreign code": _changed(CONFIG, attn_implementation="evil/kernel"),
    "a hundred thousand layers": _changed(CONFIG, num_layers=100_000),
    "a vocabulary of a billion": _changed(CONFIG, vocab_size=10**9),
    "a hundred million labels": _changed(CONFIG, num_labels=10**8),
    "no weights": lambda files: (files.folder / WEIGHTS).unlink(),
    "empty weights": _written(WEIGHTS, ""),
    "a header longer than the file": _written(WEIGHTS, struct.pack("<Q", 1 << 40) + b"{}"),
    "a header that is no JSON": _written(WEIGHTS, struct.pack("<Q", 2) + b"{{"),
    "a header that is a list": _written(WEIGHTS, struct.pack("<Q", 2) + b"[]"),
    "a header nested deep": _written(WEIGHTS, struct.pack("<Q", 100_000) + b"[" * 100_000),
}.items():
    case("model_bad", "pretrained_model", name=f"model: {_name}")(_break)


case("model_kind", "pretrained_model", name="model: called a BERT")(_changed(CONFIG, model_type="bert"))
case("model_kind", "pretrained_model", name="model: called quantized")(
    _changed(CONFIG, quantization_config={"quant_method": "gptq"})
)
case("model_kind", "pretrained_model", name="model: no configuration")(lambda files: (files.folder / CONFIG).unlink())


@case("model_bad", "pretrained_model", name="model: an empty folder")
def _empty_folder(files: Files) -> dict[str, Any]:
    (files.folder / "empty").mkdir()
    return {"pretrained_model": str(files.folder / "empty")}


@case("model_bad", "pretrained_model", name="model: weights cut short")
def _weights_cut(files: Files) -> None:
    data = (files.folder / WEIGHTS).read_bytes()
    (files.folder / WEIGHTS).write_bytes(data[: len(data) - 100])


def _header(change: Callable[[dict[str, Any]], Any]) -> Break:
    def broken(files: Files) -> None:
        data = (files.folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (files.folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return broken


def _tensor(header: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for key, value in header.items() if key != "__metadata__")
    return found


case("model_bad", "pretrained_model", name="model: tensors that overlap")(
    _header(lambda h: h.update(extra={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}))
)
case("model_bad", "pretrained_model", name="model: a shape that its bytes do not make")(
    _header(lambda h: _tensor(h).update(shape=[1 << 40]))
)
case("model_bad", "pretrained_model", name="model: an unknown kind of number")(
    _header(lambda h: _tensor(h).update(dtype="F7"))
)
case("model_bad", "pretrained_model", name="model: a negative size")(
    _header(lambda h: _tensor(h).update(shape=[-4, -8]))
)
case("model_bad", "pretrained_model", name="model: no offsets")(_header(lambda h: _tensor(h).pop("data_offsets")))


def _state(change: Callable[[dict[str, Any]], Any]) -> Break:
    def broken(files: Files) -> None:
        state = load_file(files.folder / WEIGHTS)
        change(state)
        save_file(state, files.folder / WEIGHTS)

    return broken


case("model_keys", "pretrained_model", name="model: a tensor missing")(
    _state(lambda state: state.pop("decoder.final_layer_norm.weight"))
)
case("model_keys", "pretrained_model", name="model: a tensor too many")(
    _state(lambda state: state.update(unknown=torch.zeros(3)))
)
case("model_keys", "pretrained_model", name="model: another shape")(_changed(CONFIG, d_ff=64))
case("model_keys", "pretrained_model", name="model: more layers than weights")(_changed(CONFIG, num_layers=3))


@case("model_bad", "pretrained_model", name="model: a shard that is not there")
def _shard(files: Files) -> None:
    (files.folder / WEIGHTS).rename(files.folder / "pretrained_model/other.safetensors")
    index = {"weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}
    (files.folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


case("model_lfs", "pretrained_model", name="model: a pointer of git lfs")(
    _written(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
)


@case("model_hash", "pretrained_model", name="model: another hash than the one beside it")
def _another_hash(files: Files) -> None:
    (files.folder / f"{WEIGHTS}.sha256").write_text(f"{'0' * 64}  model.safetensors\n")


@case("weights_not_numbers", "pretrained_model", name="model: NaN in a weight")
def _nan(files: Files) -> None:
    state = load_file(files.folder / WEIGHTS)
    state["decoder.final_layer_norm.weight"][3] = float("nan")
    save_file(state, files.folder / WEIGHTS, {"format": "pt"})


case("model_bad", "pretrained_model", name="model: a distance of 0")(
    _changed(CONFIG, relative_attention_max_distance=0)
)
case("generation_bad", "pretrained_model", name="model: settings that cannot be saved")(
    _changed("pretrained_model/generation_config.json", cache_implementation="evil")
)


@case("model_kind", "pretrained_model", name="a LoRA adapter")
def _adapter(files: Files) -> dict[str, Any]:
    folder = files.folder / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "t5-small"}')
    save_file({"base_model.model.shared.lora_A.weight": torch.zeros(2, 2)}, folder / "adapter_model.safetensors")
    return {"pretrained_model": str(folder)}


def _bart(**more: Any) -> Break:
    def broken(files: Files) -> dict[str, Any]:
        saved("BartForConditionalGeneration", files.folder / "bart", **more)
        return {"pretrained_model": str(files.folder / "bart"), "freeze": ""}

    return broken


case("positions_short", "train_file", name="rows longer than a BART has places for")(_bart(max_position_embeddings=12))


# --- bare state dicts


def _squeezed(path: Path) -> None:
    """An archive that unfolds to more than it says, as torch never writes one."""
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name, content in parts.items():
            small.writestr(name, content)


def _bin(change: Callable[[Path], Any]) -> Break:
    def broken(files: Files) -> dict[str, Any]:
        change(files.folder / "t5.bin")
        return {"pretrained_model": str(files.folder / "t5.bin")}

    return broken


class Evil:
    """Runs a command where it is unpickled in good faith."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch executed",))


def _without_storage(path: Path) -> None:
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as less:
        for name, content in parts.items():
            if not name.endswith("data/0"):
                less.writestr(name, content)


def _in_the_old_form(path: Path, cut: int) -> None:
    """As torch wrote it before 1.6, without its last bytes."""
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])


def _flipped(path: Path) -> None:
    with zipfile.ZipFile(path) as whole:
        (part,) = (part for part in whole.infolist() if part.filename.endswith("data/0"))
    data = bytearray(path.read_bytes())
    data[part.header_offset + 300] ^= 1
    path.write_bytes(data)


for _name, _harm in {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-500]),
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "a zip of something else": lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"),
    "without the content of a tensor": _without_storage,
    "of the old form, cut short": lambda path: _in_the_old_form(path, 40),
    "compressed": _squeezed,
    "no T5": lambda path: torch.save({"weight": torch.zeros(3)}, path),
}.items():
    case("model_bad", "pretrained_model", name=f"state dict: {_name}")(_bin(_harm))
case("model_checksum", "pretrained_model", name="state dict: a flipped bit in a tensor")(_bin(_flipped))
case("model_pickle", "pretrained_model", name="state dict: a command")(
    _bin(lambda path: torch.save({"a": Evil()}, path))
)
case("model_pickle", "pretrained_model", name="state dict: a number")(_bin(lambda path: torch.save({"a": 3}, path)))
case("model_pickle", "pretrained_model", name="state dict: a list")(
    _bin(lambda path: torch.save([torch.zeros(1)], path))
)


@case("model_keys", "pretrained_model", name="state dict: of another width")
def _other_width(files: Files) -> dict[str, Any]:
    return {"pretrained_model": str(files.folder / "t5.bin"), "d_ff": 96}


# --- tokenizer and model together

for _name, _break in {
    "no JSON": _written("tokenizer/tokenizer.json", "{"),
    "nested deep": _written("tokenizer/tokenizer.json", "[" * 100_000),
    "empty": _written("tokenizer/tokenizer.json", ""),
    "another form": _written("tokenizer/tokenizer.json", '{"version": "9", "model": {"type": "Magic"}}'),
}.items():
    case("tokenizer_bad", "tokenizer", name=f"tokenizer: {_name}")(_break)


@case("tokenizer_bad", "tokenizer", name="tokenizer: an empty folder")
def _no_tokenizer(files: Files) -> dict[str, Any]:
    (files.folder / "nothing").mkdir()
    return {"tokenizer": str(files.folder / "nothing")}


@case("tokenizer_differs", "tokenizer", name="tokenizer: another than the model's own")
def _another_vocabulary(files: Files) -> None:
    for part in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(files.folder / "tokenizer" / part, files.folder / "pretrained_model" / part)
    path = files.folder / "tokenizer/tokenizer.json"
    whole = json.loads(path.read_text())
    words = whole["model"]["vocab"]
    whole["model"]["vocab"] = {**words, "你": words["好"], "好": words["你"]}
    path.write_text(json.dumps(whole))


@case("tokenizer_bad", "tokenizer", name="tokenizer: a pattern that backtracks for ever")
def _endless_pattern(files: Files) -> None:
    path = files.folder / "tokenizer/tokenizer.json"
    whole = json.loads(path.read_text())
    whole["pre_tokenizer"] = {
        "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip
    path.write_text(json.dumps(whole))
    files.write([{"prompt": f"{number}" + "a" * 40 + "b", "response": "你好"} for number in range(20)])


for _token in ("pad", "eos"):
    case("tokenizer_token_missing", "tokenizer", name=f"tokenizer: no {_token} token")(
        _changed("tokenizer/tokenizer_config.json", **{f"{_token}_token": None})
    )


@case("vocabulary_mismatch", "tokenizer")
def more_tokens_than_the_model(files: Files) -> None:
    state = load_file(files.folder / WEIGHTS)
    state["shared.weight"] = state["shared.weight"][:9].clone()
    save_file(state, files.folder / WEIGHTS)
    files.change(CONFIG, vocab_size=9)


case("special_token_mismatch", "tokenizer", name="another end token")(_changed(CONFIG, eos_token_id=5))
case("special_token_bad", "pretrained_model", name="a pad token beyond the vocabulary")(
    _changed(CONFIG, pad_token_id=1 << 31)
)
case("special_token_bad", "pretrained_model", name="a negative decoder start")(
    _changed(CONFIG, decoder_start_token_id=-100)
)
case("decoder_start_missing", "pretrained_model", name="no decoder start")(
    _changed(CONFIG, decoder_start_token_id=None)
)
case("freeze_unknown", "freeze", name="a part that is not there")(lambda _files: {"freeze": "encoder,head"})
case("lora_parts_unknown", "lora_parts", name="a layer that is not there")(
    lambda _files: {"lora_rank": 4, "lora_parts": "q,q_proj", "freeze": ""}
)
case("lora_nothing", "lora_parts", name="adapters in what is frozen alone")(
    lambda _files: {"lora_rank": 4, "lora_parts": "encoder", "freeze": "encoder"}
)
case("lora_new_model", "lora_rank", name="adapters in a new model")(
    lambda _files: {"lora_rank": 4, "pretrained_model": ""}
)
case("shard_family", "shard", name="a T5 that is to be divided")(lambda _files: {"shard": "full"})
case("family_differs", "family", name="another family than the model's")(lambda _files: {"family": "seq2seq"})
case("nothing_trainable", "freeze", name="everything frozen")(lambda _files: {"freeze": "encoder,decoder,embeddings"})

# --- folders and machine


@case("folder_unwritable", "output_dir")
def an_output_folder_below_a_file(files: Files) -> dict[str, Any]:
    (files.folder / "file").touch()
    return {"output_dir": str(files.folder / "file/out")}


@case("unfinished_run", "output_dir")
def an_unfinished_run(files: Files) -> None:
    (files.folder / "out/checkpoints/step-00000003").mkdir(parents=True)
    (files.folder / "out/RUN.json").write_text(json.dumps({"run": "sft-small-1", "steps_total": 9}))


@case("clock_off", "machine", "warning")
def a_file_from_the_future(files: Files) -> None:
    os.utime(files.path("train_file"), (4e9, 4e9))


case("memory_short", "memory", name="little memory")(lambda _files: {"memory_limit": 100 << 20})
