"""Checks of the model and of its precision, and what fixes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.contract import vocabulary
from engine.contract.config import RunConfig, names_in
from engine.contract.facts import DataFacts, ModelFacts, Sizes, TokenizerFacts
from engine.contract.inputs import require_positions, require_shardable, tokenizer_folder
from engine.contract.messages import InputError
from engine.contract.texts import Phrase, short_count
from sft_tui.preflight import missing
from sft_tui.preflight.data import use_another
from sft_tui.preflight.declaration import Actions, CheckedRun, Group, Seen, of_message
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import DEFAULTS, Edit, System
from sft_tui.text import safe

# Peak learning rates that are usual for LoRA, and for whole causal models; those of other families vary widely.
USUAL_RATES = {"lora": 2e-4, "causal": 2e-5}
ODD = 9.99  # times these; below 10, which may come out of a division as a bit less
LONGEST_TITLE = 32  # characters of a model's name, and of a part that is frozen, on one line
MOST_FROZEN = 3  # parts on it
SHAPE = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")


@dataclass(frozen=True)
class Model:
    """A model that was read; a new one's embeddings are as large as the tokenizer needs."""

    config: RunConfig
    facts: ModelFacts
    tokenizer: TokenizerFacts | None

    @property
    def sizes(self) -> Sizes:
        """Its parameters, and what the optimizer keeps for them."""
        facts = self.facts if self.tokenizer is None else self.facts.for_tokens(self.tokenizer.tokens)
        return facts.sizes


@dataclass(frozen=True)
class Precision:
    """The precision that is asked for, and whether `device` computes in bf16 natively."""

    wanted: str
    native: bool
    device: str
    known: bool = True  # or else its devices are not of this machine


@dataclass(frozen=True)
class Context:
    """The tokens of the longest row of a run, and of those that its model was made for; 0 if that is not known."""

    model: str
    longest: int
    places: int


MODEL = Group[Model]("Model", "pretrained_model")
CONTEXT = Group[Context]("Model", "max_seq_len")
PRECISION = Group[Precision]("Machine", "mixed_precision")


def findings(model: Model) -> Iterator[Finding]:
    """The findings on a model that was read, alone and together with tokenizer and rows."""
    yield from MODEL.findings(model)
    tokenizer, facts = model.tokenizer, model.facts
    if tokenizer is None:
        return
    if tokenizer.differs is not None:
        yield of_message(tokenizer.differs, "tokenizer")
    else:
        own = tokenizer_folder(model.config)
        for fault in vocabulary.faults(model.facts.name, facts.rows, facts.special, own, tokenizer):
            yield of_message(fault, "tokenizer")


def undividable(model: Model, processes: int) -> Iterator[Finding]:
    """The finding on a model that is to be divided among processes and cannot be."""
    try:
        require_shardable(model.config, model.facts.kind, processes, model.facts.settings)
    except InputError as error:
        yield of_message(error.message, "shard")


def too_long(model: Model, data: DataFacts) -> Iterator[Finding]:
    """The finding on rows that are longer than the model's positions."""
    for setting, file in data.read.items():
        if file.tokens is not None:
            tokens = file.tokens
            longest = {"prompt": tokens.prompt.longest, "label": tokens.label.longest, "row": tokens.longest_row}
            try:
                require_positions(
                    str(getattr(model.config, setting)), model.config, longest, model.facts.positions.known
                )
            except InputError as error:
                yield of_message(error.message, setting)
                return


def beyond_context(model: Model, data: DataFacts) -> Iterator[Finding]:
    """The finding on rows that are longer than those that a model was made for."""
    decoder, tokens = model.facts.decoder, [file.tokens.longest_row for file in data.read.values() if file.tokens]
    longest = min(max(tokens, default=0), model.config.max_seq_len)
    if decoder is not None and "row" not in model.facts.positions.known:
        yield from CONTEXT.findings(Context(model.facts.name, longest, decoder.context))


def gathered(model: Model, *, bf16: bool) -> int:
    """Bytes of the weights that a model divided among processes puts together in a micro-batch; 0 if it is not.

    The layers are put together twice, forward and backward, what is outside them once. `bf16`: whether all devices
    compute in it, if the settings let them.
    """
    config, decoder = model.config, model.facts.decoder
    if config.shard == "off":
        return 0
    kind = 2 if bf16 and config.mixed_precision != "fp32" else 4
    learns = not config.lora_rank and "embeddings" not in names_in(config.freeze)
    outside = model.facts.rows * decoder.width * (1 if decoder.tied else 2) if decoder else 0
    return 2 * kind * (model.sizes.parameters - outside) + (4 if learns else kind) * outside


def learning(model: Model) -> Phrase:
    """What learns of a model, on a line: `SmolLM2-135M · causal · LoRA r 16 · 4.9 M of 134.5 M learn`."""
    config, sizes = model.config, model.sizes
    how = [safe(model.facts.title, LONGEST_TITLE), model.facts.kind]
    if config.lora_rank:
        how.append(f"LoRA r {config.lora_rank}")
    title: str | Phrase = " · ".join(how)
    if frozen := names_in(config.freeze):
        named = [Phrase(f"frozen.{part}", fallback=safe(part, LONGEST_TITLE)) for part in frozen[:MOST_FROZEN]]
        more = ("…",) if len(frozen) > MOST_FROZEN else ()
        title = Phrase.of("item.joined", done=title, more=Phrase.of("learning.frozen", parts=(*named, *more)))
    counts = {"trained": short_count(sizes.trained), "total": short_count(sizes.parameters)}
    part = "all" if sizes.trained == sizes.parameters else "some"
    return Phrase.of(f"learning.{part}", model=title, **counts)


# --- remedies


def another(_finding: Finding, run: CheckedRun) -> Actions:
    """Use another model: one that was pretrained here, or a small new one."""
    return missing.advice("pretrained_model", run.config, run.subjects("file_missing"), run.check)[1]


def what_it_is(finding: Finding, run: CheckedRun) -> Actions:
    """Correct its config.json, or use the model that it belongs to or contains."""
    file = str(Path(str(finding.args["path"])) / "config.json")
    if named := finding.args.get("model_type"):
        return (Edit(file, "model_type", str(named)),)
    if key := finding.args.get("drop"):
        return (Edit(file, str(key), None),)
    if gguf := str(finding.args.get("gguf") or ""):
        return missing.converted(gguf, run.check)
    instead = str(finding.args.get("instead", ""))
    return (run.check(pretrained_model=instead),) if instead else another(finding, run)


def fetch(finding: Finding, _run: CheckedRun) -> Actions:
    """Fetch the file with Git LFS."""
    return (System(("git", "-C", str(Path(str(finding.args["path"])).parent), "lfs", "pull")),)


def their_shape(finding: Finding, run: CheckedRun) -> Actions:
    """Set the shape of the weights, if the settings say another."""
    shape = {name: finding.args[name] for name in SHAPE if name in finding.args}
    changes = {name: value for name, value in shape.items() if value != getattr(run.config, name)}
    return (run.check(**changes),) if changes else another(finding, run)


def without_the_setting(finding: Finding, _run: CheckedRun) -> Actions:
    """Remove the setting from its file, or move the file out of the way if more than one is wrong."""
    path, key = str(finding.args["path"]), str(finding.args["key"])
    return (Edit(path, key, None),) if key else (System(("mv", path, f"{path}.bad")),)


def take_pad(finding: Finding, run: CheckedRun) -> Actions:
    """Take the tokenizer's pad token for it."""
    token = str(finding.args.get("token", "decoder_start"))
    if run.pad is None:
        return ()
    return (Edit(str(Path(str(finding.args["model"])) / "config.json"), f"{token}_token_id", run.pad),)


def shorter_rows(finding: Finding, run: CheckedRun) -> Actions:
    """Lower `max_seq_len` to the model's positions."""
    return (run.check(max_seq_len=finding.args["positions"]),)


def shorter_replies(finding: Finding, run: CheckedRun) -> Actions:
    """Lower `max_new_tokens` to the model's positions."""
    return (run.check(max_new_tokens=finding.args["positions"]),)


def freeze_what_exists(finding: Finding, run: CheckedRun) -> Actions:
    """Leave that name out of `freeze`."""
    parts = names_in(run.config.freeze)
    return (run.check(freeze=",".join(part for part in parts if part != finding.args["name"])),)


def freeze_less(_finding: Finding, run: CheckedRun) -> Actions:
    """Freeze only what the preset freezes."""
    return (run.check(freeze=DEFAULTS.freeze),)


def adapt_what_exists(finding: Finding, run: CheckedRun) -> Actions:
    """Leave that name out of `lora_parts`."""
    parts = names_in(run.config.lora_parts)
    return (run.check(lora_parts=",".join(part for part in parts if part != finding.args["name"]) or "all"),)


def adapt_all(_finding: Finding, run: CheckedRun) -> Actions:
    """Give every linear layer an adapter."""
    return (run.check(lora_parts="all", freeze=""),)


def without_adapters(_finding: Finding, run: CheckedRun) -> Actions:
    """Train the weights themselves."""
    return (run.check(lora_rank=0),)


def family_by_config(_finding: Finding, run: CheckedRun) -> Actions:
    """Leave `family` at auto."""
    return (run.check(family=RunConfig.family),)


def usual_rate(finding: Finding, run: CheckedRun) -> Actions:
    """Take the usual peak."""
    return (run.check(learn_rate=float(f"{float(finding.args['usual']) / run.config.div_factor:.3g}")),)


def precision_by_hardware(_finding: Finding, run: CheckedRun) -> Actions:
    """Leave `mixed_precision` at auto."""
    return (run.check(mixed_precision="auto"),)


def undivided(_finding: Finding, run: CheckedRun) -> Actions:
    """Leave `shard` off."""
    return (run.check(shard="off"),)


def without_dropout(_finding: Finding, run: CheckedRun) -> Actions:
    """Set every rate of dropout to 0, that of layers too."""
    return (run.check(dropout_rate=0.0),)


def by_adamw(_finding: Finding, run: CheckedRun) -> Actions:
    """Use AdamW."""
    return (run.check(optimizer="adamw"),)


# --- the model; what is wrong with its files, the engine says

MODEL.error("model_bad", "The path is not a model, or it is damaged.", remedy=another, others=use_another)
MODEL.error(
    "model_kind", "It is something else: an adapter, another format, a folder of checkpoints, …",
    remedy=what_it_is, others=use_another,
)  # fmt: skip
MODEL.error("family_differs", "`family` names another one than the model's.", subject="family", remedy=family_by_config)
MODEL.error("model_lfs", "It is a pointer of Git LFS, not the file itself.", remedy=fetch)
MODEL.error("model_hash", "Its SHA-256 is not the known one.", remedy=another)
MODEL.error("model_checksum", "A checksum in the file is wrong.", remedy=another)
MODEL.error("model_pickle", "It is a pickle that asks for more than tensors.", remedy=another)
MODEL.error("model_keys", "Tensors are missing or have another shape than its configuration says.", remedy=their_shape)
MODEL.error("weights_not_numbers", "Weights are NaN or infinite.", remedy=another)
MODEL.error("generation_bad", "Its generation settings could not be saved with it.", remedy=without_the_setting)
MODEL.error(
    "decoder_start_missing", "No token is named that begins a reply.", subject="pretrained_model", remedy=take_pad
)
MODEL.error(
    "special_token_bad", "A special token is outside its vocabulary.", subject="pretrained_model", remedy=take_pad
)
MODEL.error("positions_short", "Rows are longer than its positions.", remedy=shorter_rows)
MODEL.error(
    "replies_long", "Replies may be longer than its positions.", subject="max_new_tokens", remedy=shorter_replies
)
MODEL.error("freeze_unknown", "A part to freeze does not exist.", subject="freeze", remedy=freeze_what_exists)
MODEL.error("nothing_trainable", "Nothing is left to train.", subject="freeze", remedy=freeze_less)
MODEL.error(
    "lora_parts_unknown", "A layer that should get an adapter does not exist.", subject="lora_parts",
    remedy=adapt_what_exists,
)  # fmt: skip
MODEL.error("lora_nothing", "No layer is left for an adapter.", subject="lora_parts", remedy=adapt_all)
MODEL.error("lora_new_model", "A new model has no adapters.", subject="lora_rank", remedy=without_adapters)

MODEL.error("shard_family", "Only causal models can be divided.", subject="shard", remedy=undivided)
MODEL.error("shard_optimizer", "Its optimizer needs more than a share.", subject="shard", remedy=by_adamw)
MODEL.error(
    "shard_layerdrop", "Processes that skip different layers would wait for each other without end.", subject="shard",
    remedy=without_dropout,
)  # fmt: skip
MODEL.error("shard_alone", "There is only one process to divide a model among.", subject="shard", remedy=undivided)


@MODEL.check("model", "ok")
def _model(model: Model) -> Iterator[Seen]:
    """Its family and its parameters."""
    frozen = model.config.freeze or Phrase.of("frozen.none")
    shown = {"path": model.facts.name, "family": model.facts.family, "frozen": frozen}
    counts = {"trained": f"{model.sizes.trained:,}", "total": f"{model.sizes.parameters:,}"}
    verified, wrapper = model.facts.verified, model.facts.wrapper
    texts = {
        "verified": Phrase.of(f"verified.{verified}") if verified else "",
        "wrapped": Phrase.of("verified.unwrapped", prefix=wrapper) if wrapper else "",
        "adapters": Phrase.of("learned.adapters", rank=model.config.lora_rank) if model.config.lora_rank else "",
    }
    yield Seen({**shown, **counts, **texts})


@MODEL.check("learn_rate_odd", "warning", subject="learn_rate", remedy=usual_rate)
def _learn_rate_odd(model: Model) -> Iterator[Seen]:
    """The peak learning rate is ten times the usual one of LoRA, or of a whole causal model, or a tenth of it."""
    how = "lora" if model.config.lora_rank else model.facts.kind
    usual, peak = USUAL_RATES.get(how), model.config.peak_learn_rate()
    if usual is not None and not usual / ODD < peak < usual * ODD:
        yield Seen({"peak": peak, "usual": usual, "how": Phrase(f"learned.{how}")})


@CONTEXT.check("context_short", "warning", remedy=shorter_rows)
def _context_short(rows: Context) -> Iterator[Seen]:
    """Rows are longer than those that the model was made for."""
    if rows.places and rows.longest > rows.places:
        yield Seen({"path": rows.model, "longest": rows.longest, "positions": rows.places})


# --- precision


@PRECISION.check("precision_fallback", "warning", remedy=precision_by_hardware)
def _precision_fallback(asked: Precision) -> Iterator[Seen]:
    """bf16 is asked for, and the hardware has none."""
    if asked.wanted == "bf16" and not asked.native:
        yield Seen({"device": asked.device})


@PRECISION.check("precision", "ok")
def _precision(asked: Precision) -> Iterator[Seen]:
    """The precision that is computed in, and why."""
    if asked.wanted == "bf16" and not asked.native:
        return
    bf16 = asked.native and asked.wanted != "fp32"
    why = ("native" if asked.known else "assumed") if bf16 else "not_native"
    reason = Phrase.of(f"precision.{why if asked.wanted == 'auto' else 'as_asked'}")
    yield Seen({"precision": "bf16" if bf16 else "fp32", "reason": reason})
