"""RunConfig: every setting of a run, with its unit, range and help text in one place."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_type_hints

from engine.contract.messages import InputError
from engine.contract.texts import Lang

JsonValue = str | int | float | bool | list[str]


UNITS_ZH = {"tokens": "词元", "rows": "行", "steps": "步", "seconds": "秒"}


@dataclass(frozen=True)
class Setting:
    """The description of one field: help in both languages, unit, allowed values, and its group."""

    group: str
    en: str
    zh: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False  # the lower bound itself is not allowed
    choices: tuple[str, ...] = ()
    when_empty: tuple[str, str] | None = None  # in English and Chinese
    path: bool = False  # a file or folder: a leading `~` is expanded to the home folder if a person typed it
    # Whether a resumed run may change it: such a setting does not affect what a step computes.
    free_on_resume: bool = False

    def empty(self, lang: Lang = "en") -> str:
        """What an empty value means, in `lang`; empty if it has no meaning of its own."""
        return self.when_empty[lang == "zh"] if self.when_empty else ""

    def unit_in(self, lang: Lang = "en") -> str:
        """The unit in `lang`; empty if there is none."""
        return UNITS_ZH.get(self.unit, self.unit) if lang == "zh" else self.unit

    def help(self, lang: Lang = "en") -> str:
        """The help text in `lang`."""
        return self.zh if lang == "zh" else self.en


def setting(default: Any, group: str, en: str, zh: str, **rules: Any) -> Any:
    """A dataclass field that carries its own description."""
    return field(default=default, metadata={"setting": Setting(group, en, zh, **rules)})


@dataclass(frozen=True)
class RunConfig:
    """Every setting of a run; paths are relative to the folder the run is started in."""

    train_file: str = setting(
        "data/sft_train_small_train.parquet",
        "data",
        "training rows, Parquet",
        "训练数据（Parquet）",
        path=True,
        free_on_resume=True,
    )
    validation_file: str = setting(
        "data/sft_train_small_valid.parquet",
        "data",
        "validation rows, Parquet",
        "验证数据（Parquet）",
        path=True,
        free_on_resume=True,
    )
    test_file: str = setting(
        "data/my_test_dataset.parquet",
        "data",
        "rows that `test` evaluates, Parquet",
        "test 命令评估的数据（Parquet）",
        path=True,
        free_on_resume=True,
    )
    prompt_column: str = setting("prompt", "data", "column with the prompts", "提问所在的列")
    response_column: str = setting("response", "data", "column with the responses", "回答所在的列")
    max_seq_len: int = setting(
        512, "data", "longer prompts and responses are cut to this", "提问和回答的最大长度", unit="tokens", low=2
    )
    token_store: str = setting(
        "data/token_store",
        "data",
        "folder for the tokenized rows, reused while nothing changes",
        "分词结果的缓存目录",
        path=True,
        free_on_resume=True,
    )

    pretrained_model: str = setting(
        "model_save/chat_small_t5.best.bin",
        "model",
        "a transformers folder or a state dict (.bin, .safetensors); empty: a new T5 with random weights",
        "transformers 目录或权重文件（.bin、.safetensors）；留空则随机初始化一个新的 T5",
        when_empty=("a new T5", "新建 T5"),
        path=True,
        free_on_resume=True,
    )
    tokenizer: str = setting(
        "model_save/my_tokenizer_sp/",
        "model",
        "folder of the tokenizer; empty: the one in the model's folder",
        "分词器目录；留空则使用模型目录中的分词器",
        when_empty=("from the model", "随模型"),
        path=True,
        free_on_resume=True,
    )
    freeze: str = setting(
        "encoder,embeddings",
        "model",
        "parts that do not learn: encoder, decoder, embeddings, or beginnings of parameter names, with commas; "
        "empty: all learn",
        "不参与训练的部分：encoder、decoder、embeddings 或参数名开头，用逗号分隔；留空则全部训练",
    )
    dropout_rate: float = setting(
        -1.0,
        "model",
        "dropout of every kind (attention, activations, layers); -1 keeps the model's own (0.1 for a new one)",
        "各种 dropout（注意力、激活、整层）；-1 表示沿用模型自身的设置",
        low=-1,
        high=0.9,
    )
    d_model: int = setting(
        768, "model", "width, for a new model or a bare state dict", "模型宽度（新模型或权重文件）", low=8
    )
    d_kv: int = setting(64, "model", "width of one attention head, for the same", "每个注意力头的宽度（同上）", low=4)
    d_ff: int = setting(3072, "model", "width of the feed-forward layers, for the same", "前馈层宽度（同上）", low=8)
    num_layers: int = setting(10, "model", "encoder layers, for the same", "编码器层数（同上）", low=1)
    num_decoder_layers: int = setting(10, "model", "decoder layers, for the same", "解码器层数（同上）", low=1)
    num_heads: int = setting(12, "model", "attention heads, for the same", "注意力头数（同上）", low=1)

    epochs: int = setting(3, "training", "passes over the training rows", "训练轮数", low=1)
    batch_size_per_gpu: int = setting(
        1,
        "training",
        "rows of a step for each process and accumulation",
        "每个进程每次累积的样本数",
        unit="rows",
        low=1,
    )
    gradient_accumulation_steps: int = setting(
        8,
        "training",
        "effective batch = batch_size_per_gpu × this × processes; it sets the result, not the memory",
        "有效批大小 = batch_size_per_gpu × 本项 × 进程数；只影响结果，不影响内存",
        low=1,
    )
    num_processes: int = setting(
        0,
        "training",
        "processes; 0: one for each GPU, or one without",
        "进程数；0 表示每个 GPU 一个，没有 GPU 则为一个",
        low=0,
        high=1024,
    )
    learn_rate: float = setting(
        5e-5, "training", "learning rate at the first step", "初始学习率", low=0, low_open=True, high=1
    )
    div_factor: float = setting(
        25,
        "training",
        "peak learning rate = div_factor × learn_rate",
        "峰值学习率 = div_factor × learn_rate",
        low=1,
        high=1e4,
    )
    warmup_steps: int = setting(
        100,
        "training",
        "steps from learn_rate up to the peak, at most 30 % of the run",
        "学习率升至峰值的步数，至多为总步数的 30 %",
        unit="steps",
        low=0,
    )
    optimizer: str = setting(
        "adafactor",
        "training",
        "adafactor needs far less memory than adamw",
        "优化器；adafactor 比 adamw 省内存得多",
        choices=("adafactor", "adamw"),
    )
    weight_decay: float = setting(0.0, "training", "decoupled weight decay", "权重衰减", low=0, high=1)
    max_grad_norm: float = setting(
        1.0, "training", "gradients are scaled down to this norm", "梯度裁剪的范数上限", low=0, low_open=True
    )
    mixed_precision: str = setting(
        "auto",
        "training",
        "auto: bf16 where the hardware has it natively, else fp32",
        "auto：硬件原生支持 bf16 则使用，否则用 fp32",
        choices=("auto", "bf16", "fp32"),
    )
    seed: int = setting(
        23333, "training", "seed of sample order, dropout and new weights", "随机种子", low=0, high=2**32 - 1
    )

    micro_batch_tokens: int = setting(
        512,
        "memory",
        "token budget of a micro-batch, padding included; lower it when memory is short: the gradient stays exact",
        "每个微批的词元预算（含填充）；内存不足时调小，梯度仍然精确",
        unit="tokens",
        low=1,
        free_on_resume=True,
    )
    loss_chunk_tokens: int = setting(
        256,
        "memory",
        "label tokens whose logits are held at once",
        "同时保留 logits 的标签词元数",
        unit="tokens",
        low=1,
    )

    encoder_cache: float = setting(
        4.0,
        "memory",
        "disk for the output of a frozen encoder, kept across epochs where it fits and there is room; 0: none",
        "冻结的编码器输出在各轮之间保存于磁盘的空间上限；0 表示不保存",
        unit="GB",
        low=0,
    )

    eval_rows: int = setting(
        0, "evaluation", "validation rows to evaluate; 0: all", "评估的验证样本数；0 表示全部", unit="rows", low=0
    )
    bleu_rows: int = setting(
        0,
        "evaluation",
        "of these, rows to generate replies for and score by BLEU; 0: all",
        "其中用于生成回答并计算 BLEU 的样本数；0 表示全部",
        unit="rows",
        low=0,
    )
    max_new_tokens: int = setting(
        0,
        "evaluation",
        "longest generated reply; 0: as long as the longest response evaluated",
        "生成回答的最大长度；0 表示与评估数据中最长的回答相同",
        unit="tokens",
        low=0,
    )
    eval_batch_rows: int = setting(
        32, "evaluation", "rows generated together", "同时生成回答的样本数", unit="rows", low=1, free_on_resume=True
    )
    sample_rows: int = setting(
        3,
        "evaluation",
        "sample predictions shown after an evaluation",
        "每次评估后展示的样例数",
        unit="rows",
        low=0,
        free_on_resume=True,
    )

    output_dir: str = setting(
        "model_save/sft_small",
        "saving",
        "folder for checkpoints and the best model",
        "检查点和最佳模型的目录",
        path=True,
        free_on_resume=True,
    )
    export_state_dict: str = setting(
        "",
        "saving",
        "file that the best model is also written to, as a plain state dict of torch (.bin); empty: none",
        "最佳模型另存为 torch 权重文件（.bin）的路径；留空则不写",
        path=True,
        free_on_resume=True,
    )
    logging_steps: int = setting(
        50,
        "saving",
        "steps between lines of plain output; the event log has every step",
        "每隔多少步输出一行；事件日志记录每一步",
        unit="steps",
        low=1,
        free_on_resume=True,
    )
    save_steps: int = setting(
        312,
        "saving",
        "steps between checkpoints",
        "每隔多少步保存检查点",
        unit="steps",
        low=1,
        free_on_resume=True,
    )
    keep_latest_n_ckp: int = setting(
        3,
        "saving",
        "checkpoints to keep, not counting the best",
        "保留的检查点数（最佳的另计）",
        low=2,
        free_on_resume=True,
    )

    hang_seconds: float = setting(
        300.0,
        "saving",
        "a process without progress for so long ends the run with its stacks; the limit grows with what phases took",
        "某个进程超过该时间没有进展，则记录调用栈并结束运行；该上限随各阶段的实际耗时增大",
        unit="seconds",
        low=1,
        free_on_resume=True,
    )

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


def setting_of(name: str) -> Setting:
    """The description of the field `name`."""
    return cast(Setting, FIELDS[name].metadata["setting"])


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
        raise InputError("setting_range", name=name, value=value, rule=f"one of {known}", rule_zh=f"是 {known} 之一")
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
        raise InputError("setting_kind", name=name, value=repr(value), kind=kind.__name__)
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
    text = ", ".join([f"{bound} {rule.unit}".rstrip() for bound in bounds] + ["finite"] * (endless or not bounds))
    unit = rule.unit_in("zh")
    text_zh = "、".join([f"{bound} {unit}".rstrip() for bound in bounds] + ["有限"] * (endless or not bounds))
    raise InputError("setting_range", name=name, value=value, rule=text, rule_zh=f"满足 {text_zh}")


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
