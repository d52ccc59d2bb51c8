"""Findings on model and tokenizer from the facts of the engine."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.inputs import require_positions, tokenizer_folder
from engine.contract.messages import InputError
from sft_tui.preflight.finding import Finding, of_error

Facts = Mapping[str, Any]
# The sources of checksums for a model's files.
VERIFIED = {
    "sha256": ("; SHA-256 verified", "；SHA-256 已校验"),
    "crc32": ("; checksums verified", "；校验和无误"),
    "": ("", ""),
}
WRAPPED = ("; {} before the names of its weights is taken off", "；权重名前的 {} 已去掉")


def findings(config: RunConfig, model: Facts, tokenizer: Facts) -> Iterator[Finding]:
    """Findings on the model, and on whether tokenizer and model match."""
    if "error" in model:
        code = model["error"]["code"]
        subject = "freeze" if code in ("freeze_unknown", "nothing_trainable") else "pretrained_model"
        yield of_error(model["error"], subject)
        return
    shape = counted(model, tokenizer)
    name = config.pretrained_model or "new T5"
    args = {"path": name, "family": model["settings"]["model_type"], "frozen": config.freeze or "-"}
    args |= {"trained": f"{shape['trained']:,}", "total": f"{shape['parameters']:,}"}
    wrapper = model.get("wrapper", "")
    wrapped = [text.format(wrapper) if wrapper else "" for text in WRAPPED]
    args |= dict(zip(("wrapped", "wrapped_zh"), wrapped, strict=True))
    args |= dict(zip(("verified", "verified_zh"), VERIFIED[model.get("verified", "")], strict=True))
    yield Finding("ok", "model", "pretrained_model", args)
    if "error" not in tokenizer:
        yield from _together(config, name, model, tokenizer)


def lengths(config: RunConfig, model: Facts, rows: Facts) -> Iterator[Finding]:
    """Findings on rows that are longer than the model's positions."""
    for name in ("train_file", "validation_file"):
        if "prompt" in rows[name]:
            longest = {part: int(rows[name][part]["longest"]) for part in ("prompt", "label")}
            try:
                require_positions(str(getattr(config, name)), config, longest, model.get("positions", {}))
            except InputError as error:
                yield of_error(error, "max_new_tokens" if error.message.code == "replies_long" else name)
                return


def _together(config: RunConfig, name: str, model: Facts, tokenizer: Facts) -> Iterator[Finding]:
    rows, special, own = model["rows"], model["special"], tokenizer_folder(config)
    if "differs" in tokenizer:
        yield of_error(tokenizer["differs"], "tokenizer")
        return
    if rows and tokenizer["tokens"] > rows:
        args = {"tokenizer": own, "tokens": tokenizer["tokens"], "model": name, "rows": rows}
        yield Finding("error", "vocabulary_mismatch", "tokenizer", args)
        return
    if not special:
        return
    theirs, ours = special["eos"], tokenizer["special"]["eos"]
    if ours not in (theirs if isinstance(theirs, list) else [theirs]):
        ids = {"model_id": str(theirs), "tokenizer_id": str(ours), "token": "eos"}
        likely = tokenizer["special_tokens"].get(str(theirs), "")
        yield Finding(
            "error", "special_token_mismatch", "tokenizer", {"model": name, "tokenizer": own, "likely": likely, **ids}
        )
    if special["decoder_start"] is None:
        yield Finding("error", "decoder_start_missing", "pretrained_model", {"model": name})
    for token in ("decoder_start", "pad"):
        number = special[token]
        if number is None and token == "decoder_start":
            continue
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < rows:
            args = {"model": name, "token": token, "number": str(number), "rows": rows}
            yield Finding("error", "special_token_bad", "pretrained_model", args)


def counted(model: Facts, tokenizer: Facts) -> dict[str, int]:
    """All parameters and trained parameters; the tokenizer determines a new model's embeddings."""
    counts = {name: int(model[name]) for name in ("parameters", "trained")}
    if not model["rows"] and "error" not in tokenizer:
        size = int(tokenizer["tokens"]) * int(model["settings"]["d_model"])
        counts = {"parameters": counts["parameters"] + size, "trained": counts["trained"] + size}
    return counts


def precision_finding(config: RunConfig, *, native: bool, device: str) -> Finding:
    """The finding on the precision in which the run will compute."""
    if config.mixed_precision == "bf16" and not native:
        return Finding("warning", "precision_fallback", "mixed_precision", {"device": device})
    bf16 = native and config.mixed_precision != "fp32"
    reason = ("as asked", "按指定") if config.mixed_precision != "auto" else (
        ("native on this hardware", "该硬件原生支持") if bf16 else ("bf16 is not native here", "该硬件没有原生 bf16")
    )  # fmt: skip
    args = {"precision": "bf16" if bf16 else "fp32", "reason": reason[0], "reason_zh": reason[1]}
    return Finding("ok", "precision", "mixed_precision", args)
