"""A model in a GGUF file made into an ordinary folder, which transformers and every check here can read."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
)

from engine.contract.messages import InputError, Message
from engine.contract.model_reports import LONGEST_LICENCE, ConvertedReport
from engine.contract.requests import GgufRequest
from engine.contract.untrusted import reading_untrusted
from engine.models.finite import require_numbers
from engine.models.registry import opened
from engine.models.weightfile import require_regular
from engine.obtaining import gguf_file
from engine.obtaining.gguf_config import ROPE_FACTORS, completed, require_convertible
from engine.obtaining.gguf_file import GgufFile
from engine.obtaining.gguf_tokenizer import require_same_ids, stops_of, tokenizer_of, write_templates
from engine.obtaining.staging import Staging, require_place
from engine.obtaining.transfer import digest

WEIGHTS = "model.safetensors"
OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")  # in a saved tokenizer_config.json
STEPS = ("reading", "weights", "tokenizer", "verifying")
Progress = Callable[[str, int, int], None]  # step, steps done, steps in all


def convert(request: GgufRequest, grant: Callable[[int], None], progress: Progress) -> ConvertedReport:
    """Converts a file; raises InputError.

    `grant` allows this process that many bytes of memory on top of what an inspection needs.
    """
    path, folder = Path(request.path), Path(request.folder)
    require_regular(path, "pretrained_model")
    require_place(folder)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def step(name: str) -> None:
        progress(name, STEPS.index(name), len(STEPS))

    step("reading")
    file = gguf_file.read(path)
    require_convertible(file)
    staging = Staging(folder)
    width = torch.finfo(getattr(torch, file.dtype)).bits // 8
    with staging.held():
        staging.discard()
        staging.require_space(file.parameters * width)
        grant(2 * file.parameters * width + 16 * max(tensor.count for tensor in file.tensors))
        with reading_untrusted("gguf_bad", path), warnings.catch_warnings(action="ignore"):
            report = _converted(file, folder, staging.path, step)
        written = [str(made.relative_to(staging.path)) for made in staging.path.rglob("*") if made.is_file()]
        step("verifying")
        _require_usable(file, staging)
        require_place(folder)
        staging.finish(written, _record(file, report))
    return report


def _require_usable(file: GgufFile, staging: Staging) -> None:
    """Raises InputError if no family here can train what was made, as the check would say of the folder."""
    try:
        opened(staging.path)
        require_numbers([staging.path / WEIGHTS], staging.path / ".notes")
    except InputError as error:
        staging.discard()
        raise InputError(error.message.code, **{**error.message.args, "path": str(file.path)}) from None


def _converted(file: GgufFile, folder: Path, target: Path, step: Callable[[str], None]) -> ConvertedReport:
    """Writes the parts of the model to `target`, which will be `folder`."""
    notices: list[Message] = []
    step("weights")
    net = _network(file, notices)
    net.save_pretrained(target, max_shard_size=file.parameters * 8)
    (target / WEIGHTS).chmod(0o666 & ~_umask())
    model_type, parameters = net.config.model_type, sum(weight.numel() for weight in net.parameters())
    del net
    step("tokenizer")
    tokenizer: Any = tokenizer_of(file, notices)
    tokenizer.save_pretrained(target)
    _without_this_machine(target / "tokenizer_config.json")
    write_templates(file, target)
    require_same_ids(file, tokenizer, AutoTokenizer.from_pretrained(target, local_files_only=True))
    stops = stops_of(file, tokenizer)
    _write_generation(file, target, stops)
    return ConvertedReport(
        path=str(file.path), folder=str(folder), name=str(file.keys.get("general.name") or file.path.stem)[:200],
        architecture=model_type, parameters=parameters, dtype=file.dtype, bytes=(target / WEIGHTS).stat().st_size,
        vocabulary=len(tokenizer), stops=tuple(file.tokens[number][:60] for number in stops),
        template=bool(tokenizer.chat_template), quantized=file.quantized, notices=tuple(notices),
        licence=str(file.keys.get("general.license") or "")[:LONGEST_LICENCE],
    )  # fmt: skip


def _network(file: GgufFile, notices: list[Message]) -> Any:
    """The model with all weights of the file; raises InputError if some are missing."""
    named = {"gguf_file": file.path.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(str(file.path.parent), **named)
    completed(config, file)
    loader: Any = AutoModelForCausalLM
    net, found = loader.from_pretrained(
        str(file.path.parent), config=config, dtype=getattr(torch, file.dtype), output_loading_info=True,
        quantization_config=GgufConfig(dequantize=True), **named,
    )  # fmt: skip
    tied = set(getattr(net, "all_tied_weights_keys", None) or ())
    missing = sorted(set(found["missing_keys"]) - tied)
    if missing:
        raise InputError("gguf_incomplete", path=str(file.path), tensor=missing[0][:200], count=len(missing))
    taken = sum(weight.numel() for weight in net.parameters())
    unused = file.parameters - taken - sum(tensor.count for tensor in file.tensors if tensor.name == ROPE_FACTORS)
    if unused > 0:
        notices.append(Message.of("gguf_unused", count=f"{unused:,}"))
    # What transformers keeps of the file would make it save, and load, a quantized model.
    net.hf_quantizer, net.is_quantized = None, False
    if hasattr(net.config, "quantization_config"):
        del net.config.quantization_config
    net.config.name_or_path = ""
    return net


def _write_generation(file: GgufFile, target: Path, stops: list[int]) -> None:
    """Writes the settings of generation: the tokens that end a reply above all."""
    known = {"bos": file.token("bos"), "pad": file.token("padding"), "eos": stops if len(stops) > 1 else stops[:1]}
    said = {f"{role}_token_id": value for role, value in known.items() if value not in (None, [])}
    if len(stops) == 1:
        said["eos_token_id"] = stops[0]
    GenerationConfig(**said).save_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    config.pop("_model_name_or_path", None)
    config.update(said)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _without_this_machine(path: Path) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in OF_THIS_MACHINE}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _record(file: GgufFile, report: ConvertedReport) -> dict[str, object]:
    """What a model's folder says of where it came from."""
    return {
        "source": "gguf", "file": file.path.name, "sha256": digest(file.path, hashlib.sha256()), "name": report.name,
        "quantized": list(report.quantized), "licence": report.licence, "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }  # fmt: skip
