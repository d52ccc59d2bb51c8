"""What is said of a model and its precision, and what is proposed where it does not fit."""

from dataclasses import replace
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import (
    DataFacts,
    DecoderFacts,
    ModelFacts,
    Positions,
    Sizes,
    SpecialTokens,
    TokenizerFacts,
)
from engine.contract.messages import Message
from engine.contract.texts import Lang
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Action, Edit, Set, System
from sft_tui.preflight.model import (
    PRECISION,
    Model,
    Precision,
    beyond_context,
    findings,
    gathered,
    learning,
    too_long,
    undividable,
)
from tests.sft_tui.preflight.conftest import remedied
from tests.sft_tui.some_facts import LENGTHS, file_facts

FACTS = ModelFacts("model", "t5", 500, Sizes(1000, 400, 800), 4000, special=SpecialTokens(0, (1,), 0, ("eos",)))
TOKENIZER = TokenizerFacts(500, 0, 1)


def codes(facts: ModelFacts, tokenizer: TokenizerFacts | None = TOKENIZER) -> list[tuple[str, str]]:
    """Level and code of each finding on a model with a tokenizer."""
    return [(finding.level, finding.code) for finding in findings(Model(RunConfig(), facts, tokenizer))]


def proposed(code: str, args: dict[str, Any], **settings: Any) -> tuple[Action, ...]:
    """What is proposed against a finding on the model of a run with these settings."""
    return remedied(Finding("error", code, "pretrained_model", args), pad=3, **settings).actions


def changes(code: str, args: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The settings that are proposed."""
    (action,) = proposed(code, args, **settings)
    assert isinstance(action, Set)
    return dict(action.changes)


def test_a_model_that_fits_is_shown_with_its_parameters() -> None:
    (finding,) = findings(Model(RunConfig(freeze="encoder"), FACTS, TOKENIZER))
    assert (finding.level, finding.code) == ("ok", "model")
    for text in ("model", "t5", "1,000", "400", "encoder"):
        assert text in finding.what()


NARROW = DecoderFacts(2, 0, 1, 4, 1, 1, 1, 0, 0, tied=True)  # embeddings of 500 numbers, layers of 500


@pytest.mark.parametrize(
    ("bf16", "settings", "expected"),
    [
        (True, {}, 2 * 2 * 500 + 4 * 500),
        (False, {}, 2 * 4 * 500 + 4 * 500),
        (True, {"mixed_precision": "fp32"}, 2 * 4 * 500 + 4 * 500),
        (True, {"lora_rank": 2}, 2 * 2 * 500 + 2 * 500),
        (True, {"freeze": "embeddings, head"}, 2 * 2 * 500 + 2 * 500),
        (True, {"shard": "off"}, 0),
    ],
    ids=["bf16", "fp32", "asked for fp32", "adapters", "frozen embeddings", "not divided"],
)
def test_a_divided_model_is_put_together_in_the_dtype_it_computes_in(
    bf16: bool, settings: dict[str, Any], expected: int
) -> None:
    config = replace(RunConfig(), **{"shard": "full", "freeze": "", **settings})
    assert gathered(Model(config, replace(FACTS, decoder=NARROW), None), bf16=bf16) == expected


def test_a_new_model_is_as_large_as_its_tokenizer_needs() -> None:
    new = replace(FACTS, rows=0, special=None, per_row=Sizes(10, 10, 20))
    assert Model(RunConfig(), new, TOKENIZER).sizes == Sizes(6000, 5400, 10_800)
    assert Model(RunConfig(), new, None).sizes == new.sizes
    assert codes(new) == [("ok", "model")]


@pytest.mark.parametrize(
    ("tokenizer", "code"),
    [
        (TokenizerFacts(501, 0, 1), "vocabulary_mismatch"),
        (TokenizerFacts(500, 0, 2), "special_token_mismatch"),
        (replace(TOKENIZER, differs=Message.of("tokenizer_differs", path="words", model="model")), "tokenizer_differs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tokenizer_of_another_model_is_an_error(tokenizer: TokenizerFacts, code: str) -> None:
    assert codes(FACTS, tokenizer) == [("ok", "model"), ("error", code)]


def test_a_vocabulary_that_differs_is_not_also_compared_by_size() -> None:
    both = TokenizerFacts(501, 0, 2, differs=Message.of("tokenizer_differs", path="words", model="model"))
    assert codes(FACTS, both)[1:] == [("error", "tokenizer_differs")]


@pytest.mark.parametrize(("longest", "limit", "found"), [(64, 64, ["rows"]), (64, 32, []), (32, 64, [])])
def test_only_tokens_that_are_used_are_too_many(longest: int, limit: int, found: list[str]) -> None:
    data = DataFacts(train_file=file_facts(prompt=replace(LENGTHS, longest=longest), label=replace(LENGTHS, longest=9)))
    config = RunConfig(train_file="rows", max_seq_len=limit, max_new_tokens=8)
    model = Model(config, replace(FACTS, positions=Positions(32, 32)), TOKENIZER)
    assert [finding.args["path"] for finding in too_long(model, data)] == found


@pytest.mark.parametrize(
    ("kind", "processes", "settings", "found"),
    [
        ("t5", 2, {"optimizer": "adamw"}, ["shard_family"]),
        ("causal", 2, {"optimizer": "adafactor"}, ["shard_optimizer"]),
        ("causal", 1, {"optimizer": "adamw"}, ["shard_alone"]),
        ("causal", 2, {"optimizer": "adamw"}, []),
        ("t5", 1, {"shard": "off"}, []),
    ],
)
def test_what_cannot_be_divided_is_refused(
    kind: str, processes: int, settings: dict[str, Any], found: list[str]
) -> None:
    config = replace(RunConfig(shard="full"), **settings)
    model = Model(config, replace(FACTS, kind=kind), TOKENIZER)
    assert [finding.code for finding in undividable(model, processes)] == found


@pytest.mark.parametrize(("own", "asked", "found"), [(0.1, -1.0, 1), (0.1, 0.0, 0), (0.0, -1.0, 0), (0.0, 0.1, 1)])
def test_a_model_that_skips_layers_is_not_divided(own: float, asked: float, found: int) -> None:
    config = RunConfig(shard="full", optimizer="adamw", dropout_rate=asked)
    model = Model(config, replace(FACTS, kind="causal", settings={"layerdrop": own}), TOKENIZER)
    assert [finding.code for finding in undividable(model, 2)] == ["shard_layerdrop"] * found


@pytest.mark.parametrize(
    ("code", "args", "settings", "expected"),
    [
        ("positions_short", {"positions": 96}, {}, {"max_seq_len": 96}),
        ("replies_long", {"positions": 96}, {}, {"max_new_tokens": 96}),
        ("freeze_unknown", {"name": "embedings"}, {"freeze": "encoder, embedings"}, {"freeze": "encoder"}),
        ("nothing_trainable", {}, {"freeze": "encoder,decoder"}, {"freeze": "encoder,embeddings"}),
        ("lora_parts_unknown", {"name": "qq"}, {"lora_parts": "q, qq"}, {"lora_parts": "q"}),
        ("lora_parts_unknown", {"name": "qq"}, {"lora_parts": "qq"}, {"lora_parts": "all"}),
        ("lora_nothing", {}, {"lora_parts": "encoder", "freeze": "encoder"}, {"lora_parts": "all", "freeze": ""}),
        ("lora_new_model", {}, {"lora_rank": 16}, {"lora_rank": 0}),
        ("shard_family", {}, {"shard": "full"}, {"shard": "off"}),
        ("shard_optimizer", {}, {"shard": "full"}, {"optimizer": "adamw"}),
        ("shard_layerdrop", {}, {"shard": "full"}, {"dropout_rate": 0.0}),
        ("shard_alone", {}, {"shard": "full"}, {"shard": "off"}),
        ("model_keys", {"d_model": 96, "num_heads": 4}, {"num_heads": 4}, {"d_model": 96}),
        ("model_kind", {"path": "best", "instead": "best/model"}, {}, {"pretrained_model": "best/model"}),
    ],
)
def test_a_setting_is_corrected(code: str, args: dict[str, Any], settings: dict[str, Any], expected: Any) -> None:
    assert changes(code, args, **settings) == expected


@pytest.mark.parametrize(
    ("code", "args", "expected"),
    [
        ("model_kind", {"path": "m", "model_type": "t5"}, Edit("m/config.json", "model_type", "t5")),
        ("model_kind", {"path": "m", "drop": "quantized"}, Edit("m/config.json", "quantized", None)),
        ("generation_bad", {"path": "m/g.json", "key": "top_k"}, Edit("m/g.json", "top_k", None)),
        ("generation_bad", {"path": "m/g.json", "key": ""}, System(("mv", "m/g.json", "m/g.json.bad"))),
        ("decoder_start_missing", {"model": "m"}, Edit("m/config.json", "decoder_start_token_id", 3)),
        ("special_token_bad", {"model": "m", "token": "pad"}, Edit("m/config.json", "pad_token_id", 3)),
        ("model_lfs", {"path": "m/model.safetensors"}, System(("git", "-C", "m", "lfs", "pull"))),
    ],
)  # fmt: skip
def test_a_file_of_the_model_is_corrected(code: str, args: dict[str, Any], expected: Action) -> None:
    assert proposed(code, args, pretrained_model="m") == (expected,)


@pytest.mark.parametrize("code", ["decoder_start_missing", "special_token_bad"])
def test_without_a_pad_token_none_is_proposed(code: str) -> None:
    assert remedied(Finding("error", code, "pretrained_model", {"model": "m"}), pretrained_model="m").actions == ()


@pytest.mark.parametrize(
    ("wanted", "native", "said"),
    [
        ("auto", True, ("ok", "bf16")),
        ("auto", False, ("ok", "fp32")),
        ("fp32", True, ("ok", "fp32")),
        ("bf16", True, ("ok", "bf16")),
        ("bf16", False, ("warning", "")),
    ],
)
def test_bf16_is_computed_only_where_the_hardware_does(wanted: str, native: bool, said: tuple[str, str]) -> None:
    (finding,) = PRECISION.findings(Precision(wanted, native, "CPU"))
    assert (finding.level, finding.args.get("precision", "")) == said
    corrected = "--mixed_precision auto" in remedied(finding, mixed_precision=wanted).command
    assert corrected == (finding.level == "warning")


LLAMA = ModelFacts("smol", "llama", 500, Sizes(134_515_008, 4_884_480), 4000, title="SmolLM2-135M", kind="causal")
T5 = ModelFacts("t5.bin", "t5", 500, Sizes(188_000_000, 107_000_000), 4000, title="t5.bin", kind="t5")


@pytest.mark.parametrize(
    ("facts", "settings", "en", "zh"),
    [
        (LLAMA, {"lora_rank": 16, "freeze": ""}, "SmolLM2-135M · causal · LoRA r 16 · 4.9 M of 134.5 M learn",
         "SmolLM2-135M · causal · LoRA r 16 · 训练 4.9 M / 134.5 M 个参数"),
        (T5, {}, "t5.bin · t5 · frozen: encoder, embeddings · 107.0 M of 188.0 M learn",
         "t5.bin · t5 · 冻结：编码器、词嵌入 · 训练 107.0 M / 188.0 M 个参数"),
        (replace(LLAMA, sizes=Sizes(1_500_000_000, 1_500_000_000)), {"freeze": ""},
         "SmolLM2-135M · causal · all 1.5 B learn", "SmolLM2-135M · causal · 训练全部 1.5 B 个参数"),
        (replace(LLAMA, sizes=Sizes(9000, 400)), {"freeze": "layers.0-11 ,, norm"},
         "SmolLM2-135M · causal · frozen: layers.0-11, norm · 400 of 9,000 learn",
         "SmolLM2-135M · causal · 冻结：layers.0-11、norm · 训练 400 / 9,000 个参数"),
    ],
)  # fmt: skip
def test_what_learns_is_said_on_a_line(facts: ModelFacts, settings: dict[str, Any], en: str, zh: str) -> None:
    line = learning(Model(replace(RunConfig(), **settings), facts, None))
    assert (line.text("en"), line.text("zh")) == (en, zh)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_name_of_any_length_or_content_stays_on_its_line(lang: Lang) -> None:
    facts = replace(LLAMA, title="\x1b[31m模型" * 20)
    line = learning(Model(replace(RunConfig(), freeze="layers.0," * 40, lora_rank=1024), facts, None)).text(lang)
    assert "\x1b" not in line
    assert len(line) < 140


@pytest.mark.parametrize(
    ("kind", "rank", "peak", "odd"),
    [
        ("causal", 16, 2e-4, False), ("causal", 16, 1e-3, False), ("causal", 16, 2e-3, True),
        ("causal", 16, 2e-5, True),
        ("causal", 0, 2e-5, False), ("causal", 0, 1e-4, False), ("causal", 0, 2e-4, True), ("causal", 0, 1e-6, True),
        ("t5", 8, 3e-3, True), ("t5", 0, 1e-2, False), ("seq2seq", 0, 1e-6, False),
    ],
)  # fmt: skip
def test_a_learning_rate_far_from_the_usual_is_a_warning(kind: str, rank: int, peak: float, odd: bool) -> None:
    config = RunConfig(learn_rate=peak / 25, div_factor=25, lora_rank=rank)
    found = [one for one in findings(Model(config, replace(FACTS, kind=kind), None)) if one.level == "warning"]
    assert [one.code for one in found] == ["learn_rate_odd"] * odd
    assert all(f"{peak:g}" in one.what(lang) for one in found for lang in ("en", "zh"))


def test_the_usual_rate_is_proposed_as_a_setting() -> None:
    assert changes("learn_rate_odd", {"usual": 2e-4}, div_factor=25.0) == {"learn_rate": 8e-6}


DECODER = DecoderFacts(2, 0, 16, 24, 4, 2, 4, 0, 1024, True)


def rows_of(longest: int) -> DataFacts:
    file = file_facts()
    assert file.tokens is not None
    return DataFacts(train_file=replace(file, tokens=replace(file.tokens, longest_row=longest)))


@pytest.mark.parametrize(
    ("longest", "limit", "warned"), [(1500, 2048, [1500]), (4000, 2048, [2048]), (1024, 2048, []), (4000, 1024, [])]
)
def test_rows_beyond_the_context_are_a_warning(longest: int, limit: int, warned: list[int]) -> None:
    model = Model(RunConfig(max_seq_len=limit), replace(FACTS, decoder=DECODER), None)
    found = list(beyond_context(model, rows_of(longest)))
    assert [one.args["longest"] for one in found] == warned
    for one in found:
        assert (one.code, one.level) == ("context_short", "warning")
        (action,) = remedied(one).actions
        assert isinstance(action, Set)
        assert action.changes == {"max_seq_len": 1024}


@pytest.mark.parametrize(
    ("limit", "reply", "code"), [(2048, 0, "positions_short"), (1024, 100, "replies_long"), (900, 100, "")]
)
def test_a_table_of_positions_holds_prompt_and_answer(limit: int, reply: int, code: str) -> None:
    facts = replace(FACTS, decoder=DECODER, positions=Positions(row=1024))
    model, data = Model(RunConfig(max_seq_len=limit, max_new_tokens=reply), facts, None), rows_of(1500)
    tokens = data.read["train_file"].tokens
    assert tokens is not None
    long = replace(data.read["train_file"], tokens=replace(tokens, prompt=replace(LENGTHS, longest=1000)))
    found = list(too_long(model, DataFacts(train_file=long)))
    assert [one.code for one in found] == [code] * bool(code)
    assert list(beyond_context(model, data)) == []
    if code == "positions_short":
        assert "conversation" in found[0].what("en")
        assert "对话" in found[0].what("zh")
