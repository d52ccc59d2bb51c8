"""RunConfig: every setting of a run, with its unit, range and help text in one place."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from engine.contract.messages import InputError
from engine.contract.texts import Lang, Phrase, named, say, template

JsonValue = str | int | float | bool | list[str]


GROUPS = ("data", "model", "learns", "training", "memory", "evaluation", "saving")  # in the order of display
STATE_DICTS = (".bin", ".pt", ".pth", ".safetensors")  # ends of the names of files with weights alone
When = Callable[["RunConfig", str], bool]  # of the settings, and the family of the model


@dataclass(frozen=True)
class Setting:
    """The description of one field: unit, allowed values, and its group; the catalogues have the words."""

    name: str
    group: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False  # the lower bound itself is not allowed
    choices: tuple[str, ...] = ()
    path: bool = False  # a file or folder: a leading `~` is expanded to the home folder if a person typed it
    # Whether a resumed run may change it: such a setting does not affect what a step computes.
    free_on_resume: bool = False
    essential: bool = False  # one of the few that most runs change
    when: When | None = None  # whether it affects anything; always without one

    def empty(self, lang: Lang = "en") -> str:
        """What an empty value means, in `lang`; empty if it has no meaning of its own."""
        return template(f"setting.{self.name}.empty", lang)

    def special(self, value: object, lang: Lang = "en") -> str:
        """What a value means that is not an amount, in `lang`: an empty text, or the lowest number; else empty."""
        if value == "":
            return self.empty(lang)
        return template(f"setting.{self.name}.lowest", lang) if value == self.low else ""

    def unit_in(self, lang: Lang = "en") -> str:
        """The unit in `lang`; empty if there is none."""
        return named("unit", self.unit, lang) if self.unit else ""

    def help(self, lang: Lang = "en") -> str:
        """The help text in `lang`."""
        return say(f"setting.{self.name}.help", lang)


def setting(default: Any, group: str, **rules: Any) -> Any:
    """A dataclass field that carries its own description."""
    return field(default=default, metadata={"group": group, **rules})


def names_in(listed: str) -> list[str]:
    """The names that a setting such as `freeze` or `lora_parts` lists, as they are written there."""
    return [name for name in map(str.strip, listed.split(",")) if name]


def family_of(config: "RunConfig", family: str = "") -> str:
    """The family that a run's model belongs to: as set, else as its files say (`family`); empty if unknown."""
    if config.family != "auto":
        return config.family
    return family or ("" if config.pretrained_model else "t5")


def _may_be_causal(config: "RunConfig", family: str) -> bool:
    return family_of(config, family) in ("", "causal")


def _is_built(config: "RunConfig", _family: str) -> bool:
    """Whether the settings say the sizes of the model: it is new, or a file with weights alone."""
    return not config.pretrained_model or config.pretrained_model.endswith(STATE_DICTS)


def _freezes_encoder(config: "RunConfig", family: str) -> bool:
    return "encoder" in names_in(config.freeze) and family_of(config, family) != "causal"


def _has_adapters(config: "RunConfig", _family: str) -> bool:
    return config.lora_rank > 0


def _warms_up_by_share(config: "RunConfig", _family: str) -> bool:
    return config.warmup_steps == 0


@dataclass(frozen=True)
class RunConfig:
    """Every setting of a run, group by group; paths are relative to the folder the run is started in."""

    train_file: str = setting(
        "data/sft_train_small_train.parquet", "data", path=True, free_on_resume=True, essential=True
    )
    validation_file: str = setting(
        "data/sft_train_small_valid.parquet", "data", path=True, free_on_resume=True, essential=True
    )
    max_seq_len: int = setting(512, "data", unit="tokens", low=2, essential=True)
    test_file: str = setting("data/my_test_dataset.parquet", "data", path=True, free_on_resume=True)
    prompt_column: str = setting("prompt", "data")
    response_column: str = setting("response", "data")
    messages_column: str = setting("messages", "data", when=_may_be_causal)
    chat_template: str = setting("", "data", when=_may_be_causal)
    template_options: str = setting("", "data", when=_may_be_causal)
    too_long: str = setting("drop-turns", "data", choices=("drop-turns", "drop", "cut"), when=_may_be_causal)
    leave_out: str = setting("yes", "data", choices=("no", "yes"))
    token_store: str = setting("data/token_store", "data", path=True, free_on_resume=True)

    pretrained_model: str = setting(
        "model_save/chat_small_t5.best.bin", "model", path=True, free_on_resume=True, essential=True
    )
    tokenizer: str = setting("model_save/my_tokenizer_sp/", "model", path=True, free_on_resume=True, essential=True)
    family: str = setting("auto", "model", choices=("auto", "t5", "seq2seq", "causal"))
    dropout_rate: float = setting(-1.0, "model", low=-1, high=0.9)
    d_model: int = setting(768, "model", low=8, when=_is_built)
    d_kv: int = setting(64, "model", low=4, when=_is_built)
    d_ff: int = setting(3072, "model", low=8, when=_is_built)
    num_layers: int = setting(10, "model", low=1, when=_is_built)
    num_decoder_layers: int = setting(10, "model", low=1, when=_is_built)
    num_heads: int = setting(12, "model", low=1, when=_is_built)

    freeze: str = setting("encoder,embeddings", "learns", essential=True)
    lora_rank: int = setting(0, "learns", low=0, high=1024, essential=True)
    lora_alpha: float = setting(32.0, "learns", low=0, low_open=True, high=1e4, when=_has_adapters)
    lora_scaling: str = setting("classic", "learns", choices=("classic", "rank-stabilized"), when=_has_adapters)
    lora_parts: str = setting("all", "learns", when=_has_adapters)
    learn: str = setting("answers", "learns", choices=("answers", "last", "all"), when=_may_be_causal)

    epochs: int = setting(3, "training", low=1, essential=True)
    batch_size_per_gpu: int = setting(1, "training", unit="rows", low=1, essential=True)
    gradient_accumulation_steps: int = setting(8, "training", low=1, essential=True)
    learn_rate: float = setting(5e-5, "training", low=0, low_open=True, high=1, essential=True)
    div_factor: float = setting(25, "training", low=1, high=1e4)
    warmup_steps: int = setting(100, "training", unit="steps", low=0)
    warmup_ratio: float = setting(0.0, "training", low=0, high=0.3, when=_warms_up_by_share)
    optimizer: str = setting("adafactor", "training", choices=("adafactor", "adamw"))
    weight_decay: float = setting(0.0, "training", low=0, high=1)
    max_grad_norm: float = setting(1.0, "training", low=0, low_open=True)
    mixed_precision: str = setting("auto", "training", choices=("auto", "bf16", "fp32"))
    num_processes: int = setting(0, "training", low=0, high=1024)
    shard: str = setting("off", "training", choices=("off", "full"), free_on_resume=True, when=_may_be_causal)
    seed: int = setting(23333, "training", low=0, high=2**32 - 1)

    micro_batch_tokens: int = setting(512, "memory", unit="tokens", low=1, free_on_resume=True, essential=True)
    loss_chunk_tokens: int = setting(256, "memory", unit="tokens", low=1)
    encoder_cache: float = setting(4.0, "memory", unit="GB", low=0, when=_freezes_encoder)

    bleu_rows: int = setting(0, "evaluation", unit="rows", low=0, essential=True)
    eval_rows: int = setting(0, "evaluation", unit="rows", low=0)
    max_new_tokens: int = setting(0, "evaluation", unit="tokens", low=0)
    eval_batch_rows: int = setting(32, "evaluation", unit="rows", low=1, free_on_resume=True)
    best_by: str = setting(
        "auto",
        "evaluation",
        choices=("auto", "loss", "bleu", "chrf", "rouge-l", "exact-match"),
        free_on_resume=True,
    )
    sample_rows: int = setting(3, "evaluation", unit="rows", low=0, free_on_resume=True)
    eval_on_start: str = setting("no", "evaluation", choices=("no", "yes"), free_on_resume=True)

    output_dir: str = setting("model_save/sft_small", "saving", path=True, free_on_resume=True, essential=True)
    save_steps: int = setting(312, "saving", unit="steps", low=1, free_on_resume=True)
    keep_latest_n_ckp: int = setting(3, "saving", low=2, free_on_resume=True)
    export_state_dict: str = setting("", "saving", path=True, free_on_resume=True)
    logging_steps: int = setting(50, "saving", unit="steps", low=1, free_on_resume=True)
    hang_seconds: float = setting(300.0, "saving", unit="seconds", low=1, free_on_resume=True)

    def effective_batch(self, processes: int) -> int:
        """Rows of one optimizer step over all processes."""
        return self.batch_size_per_gpu * self.gradient_accumulation_steps * processes

    def peak_learn_rate(self) -> float:
        """The highest learning rate of the schedule."""
        return self.learn_rate * self.div_factor


# Folders whose names are passed to tokenizers and safetensors; both accept only text, and a run would fail there.
UTF8_PATHS = ("output_dir", "pretrained_model", "tokenizer")
FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(RunConfig)}
KINDS: dict[str, type] = get_type_hints(RunConfig)
SETTINGS = {name: Setting(name, **declared.metadata) for name, declared in FIELDS.items()}


def setting_of(name: str) -> Setting:
    """The description of the field `name`."""
    return SETTINGS[name]


def applies(name: str, config: RunConfig, family: str = "") -> bool:
    """Whether a setting affects a run, by the other settings and the model's family, which is empty while unknown."""
    when = setting_of(name).when
    return when is None or when(config, family)


def parts_of(name: str, config: RunConfig, family: str = "") -> tuple[str, ...]:
    """The usual parts of a value that is a list with commas; () for any other setting."""
    if name != "freeze":
        return ()
    kind = family_of(config, family)
    return ("embeddings", "norm", "head") if kind == "causal" else ("encoder", "decoder", "embeddings")


def check(config: RunConfig) -> RunConfig:
    """`config` itself; raises InputError naming the first setting outside its range."""
    for name in FIELDS:
        check_value(name, getattr(config, name))
    return config


def check_value(name: str, value: Any) -> None:
    """Raises InputError unless `value` is allowed for the setting `name`."""
    rule = setting_of(name)
    if name == "mixed_precision" and value == "fp16":
        raise InputError("setting_fp16")
    check_kind(name, value)
    if rule.choices and value not in rule.choices:
        known = ", ".join(rule.choices)
        raise InputError("setting_range", name=name, value=value, rule=Phrase.of("rule.one_of", known=known))
    if isinstance(value, int | float):
        _check_range(name, value, rule)
    if name in UTF8_PATHS and not _is_utf8(value):
        raise InputError("setting_not_utf8", name=name, path=value)


def _is_utf8(text: str) -> bool:
    """False for a file name whose bytes are invalid in the locale's encoding: Python holds them as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_kind(name: str, value: Any) -> None:
    """Raises InputError unless `value` has the type of the setting `name`, whatever its range."""
    kind = KINDS[name]
    sound = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if not sound:
        raise InputError("setting_kind", name=name, value=repr(value), kind=Phrase(f"rule.{kind.__name__}"))
    if isinstance(value, str) and "\0" in value:  # not allowed in paths and names of the system
        raise InputError("setting_nul", name=name)


def _check_range(name: str, value: float, rule: Setting) -> None:
    low, high = rule.low, rule.high
    too_low = low is not None and (value < low or (rule.low_open and value == low))
    too_high = high is not None and value > high
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number above any float
        finite = False
    if finite and not too_low and not too_high:
        return
    bounds = ([f"{'>' if rule.low_open else '≥'} {_exact(low)}"] if low is not None else []) + (
        [f"≤ {_exact(high)}"] if high is not None else []
    )
    endless = not finite and high is None
    unit = Phrase(f"unit.{rule.unit}")
    parts: list[str | Phrase] = [Phrase.of("rule.bound", bound=one, unit=unit) if rule.unit else one for one in bounds]
    parts += [Phrase("rule.finite")] * (endless or not bounds)
    raise InputError("setting_range", name=name, value=value, rule=Phrase.of("rule.within", parts=tuple(parts)))


def _exact(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def require_kinds(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting known to this version has the wrong type."""
    _require(check_kind, values)


def require_values(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting known to this version has the wrong type or is out of range."""
    _require(check_value, values)


def _require(check_one: Callable[[str, Any], None], values: Mapping[str, Any]) -> None:
    for name in FIELDS.keys() & values.keys():
        try:
            check_one(name, values[name])
        except InputError as error:
            raise ValueError(error.message.what()) from None


def override(config: RunConfig, values: Mapping[str, Any]) -> tuple[RunConfig, dict[str, list[JsonValue]]]:
    """`config` with `values` applied, and the changes as {name: [old, new]}; raises InputError."""
    changed = dataclasses.replace(config, **values)
    check(changed)
    return changed, {
        name: [getattr(config, name), getattr(changed, name)]
        for name in values
        if getattr(config, name) != getattr(changed, name)
    }


def to_json(config: RunConfig) -> dict[str, JsonValue]:
    """The settings as plain values, for run records and events."""
    return dataclasses.asdict(config)


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """The settings read back; fields added by later versions keep their defaults; raises InputError."""
    return check(RunConfig(**{name: value for name, value in values.items() if name in FIELDS}))


def differences_on_resume(then: Mapping[str, Any], now: RunConfig) -> dict[str, list[JsonValue]]:
    """Settings that a resumed run must share with its checkpoint but does not, as {name: [then, now]}."""
    return {
        name: [then[name], getattr(now, name)]
        for name in FIELDS
        if name in then and then[name] != getattr(now, name) and not setting_of(name).free_on_resume
    }
