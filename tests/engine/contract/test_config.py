"""Every setting explains itself, refuses what it cannot take, and survives being written down."""

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import certificate
from engine.contract.config import (
    FIELDS,
    GROUPS,
    KINDS,
    RunConfig,
    applies,
    check,
    check_value,
    differences_on_resume,
    from_json,
    override,
    parts_of,
    setting_of,
    to_json,
)
from engine.contract.messages import InputError
from engine.contract.presets import built_in
from engine.contract.record import RunRecord
from engine.contract.texts import say

RIGHT: dict[type, str] = {int: "a whole number", float: "a number", str: "a text"}
NUMBERS = [name for name, kind in KINDS.items() if kind in (int, float)]
FLOATS = [name for name, kind in KINDS.items() if kind is float]
CHOICES = [name for name in FIELDS if setting_of(name).choices]
BOUNDED_BELOW = [name for name in NUMBERS if setting_of(name).low is not None]
BOUNDED_ABOVE = [name for name in NUMBERS if setting_of(name).high is not None]

# A resumed run may move its files and change what it tells and keeps: nothing of that enters a step.
FREE = {
    "train_file",
    "validation_file",
    "test_file",
    "token_store",
    "pretrained_model",
    "tokenizer",
    "shard",  # who holds what
    "eval_batch_rows",
    "sample_rows",
    "output_dir",
    "logging_steps",
    "save_steps",
    "hang_seconds",
    "keep_latest_n_ckp",
}
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.just(10**400),
    st.just(-(10**400)),
)


def refusal(name: str, value: Any) -> InputError:
    """How the value is refused."""
    with pytest.raises(InputError) as refused:
        check_value(name, value)
    assert refused.value.exit_code == 2
    return refused.value


def another(name: str) -> Any:
    """An allowed value that is not the default."""
    rule = setting_of(name)
    default: Any = FIELDS[name].default
    if rule.choices:
        return next(choice for choice in rule.choices if choice != default)
    if KINDS[name] is str:
        return f"{default}-another"
    return default / 2 if name in ("learn_rate", "max_grad_norm") else default + (KINDS[name] is int or 0.25)


# --- help


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_explains_itself_in_both_languages(name: str) -> None:
    rule = setting_of(name)

    assert rule.help("en").strip()
    assert any("一" <= character <= "鿿" for character in rule.help("zh"))
    assert not any("一" <= character <= "鿿" for character in rule.help("en"))
    assert rule.group in GROUPS


def test_the_defaults_are_allowed() -> None:
    assert check(RunConfig()) == RunConfig()


# --- ranges


@pytest.mark.parametrize("name", BOUNDED_BELOW)
def test_a_number_below_its_range_is_refused_by_name(name: str) -> None:
    rule = setting_of(name)
    low = rule.low
    assert low is not None
    value = int(low) - 1 if KINDS[name] is int else low - 0.5

    message = refusal(name, value).message

    sign = ">" if rule.low_open else "≥"
    for text, unit in ((message.what("en"), rule.unit_in("en")), (message.what("zh"), rule.unit_in("zh"))):
        assert text.startswith(f"{name} = {value}")
        assert f"{sign} {low:g}" in text
        assert unit in text


@pytest.mark.parametrize("name", BOUNDED_ABOVE)
def test_a_number_above_its_range_is_refused_with_the_bound(name: str) -> None:
    high = setting_of(name).high
    assert high is not None
    value = int(high) + 1 if KINDS[name] is int else high + 0.5
    exact = str(int(high)) if high == int(high) else str(high)

    message = refusal(name, value).message

    for text in (message.what("en"), message.what("zh")):
        assert text.startswith(f"{name} = {value}")
        assert f"≤ {exact}" in text


@pytest.mark.parametrize("name", BOUNDED_BELOW)
def test_the_lower_bound_itself_is_allowed_unless_it_is_open(name: str) -> None:
    rule = setting_of(name)
    assert rule.low is not None
    low = KINDS[name](rule.low)

    if rule.low_open:
        refusal(name, low)
    else:
        check_value(name, low)


@pytest.mark.parametrize("name", BOUNDED_ABOVE)
def test_the_upper_bound_itself_is_allowed(name: str) -> None:
    check_value(name, KINDS[name](setting_of(name).high))


@pytest.mark.parametrize("name", FLOATS)
def test_nan_is_refused(name: str) -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert refusal(name, value).message.what().startswith(f"{name} = {value}")


def test_infinity_is_refused_with_a_reason_that_is_true() -> None:
    rule = refusal("max_grad_norm", math.inf).message.args["rule"]

    assert "finite" in str(rule)


@pytest.mark.parametrize(("name", "sign"), [("seed", 1), ("epochs", -1), ("learn_rate", 1), ("max_grad_norm", 1)])
def test_a_number_too_large_for_a_float_is_refused(name: str, sign: int) -> None:
    assert name in str(refusal(name, sign * 10**400))


# --- kinds


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_the_wrong_type_is_refused_with_the_right_one(name: str) -> None:
    wrong: dict[type, list[Any]] = {
        int: [True, False, "3", "", None, [3], b"3", 1.0, 1.5, math.nan],
        float: [True, False, "3", "", None, [3], b"3"],
        str: [True, False, 3, 1.5, None, ["a"], b"a"],
    }
    for value in wrong[KINDS[name]]:
        text = refusal(name, value).message.what()
        assert text == f"{name} = {value!r}: it must be {RIGHT[KINDS[name]]}."


@pytest.mark.parametrize("name", FLOATS)
def test_an_integer_is_accepted_for_a_float(name: str) -> None:
    check_value(name, 0 if name in ("dropout_rate", "weight_decay", "warmup_ratio") else 1)


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_choice_is_refused(name: str) -> None:
    rule = setting_of(name)
    for choice in rule.choices:
        check_value(name, choice)

    message = refusal(name, "another").message

    assert message.what("en") == f"{name} = another: it must be one of {', '.join(rule.choices)}."
    assert message.what("zh") == f"{name} = another：应是 {', '.join(rule.choices)} 之一。"


def test_fp16_is_refused_with_the_reason_and_what_to_use_instead() -> None:
    message = refusal("mixed_precision", "fp16").message

    assert message.code == "setting_fp16"
    assert all("fp16" in text for text in (message.what("en"), message.what("zh")))
    assert all("--mixed_precision auto" in text for text in (message.fix("en"), message.fix("zh")))


@pytest.mark.parametrize("count", [1, 0, -1])
def test_fewer_than_two_checkpoints_are_not_enough(count: int) -> None:
    assert "keep_latest_n_ckp" in str(refusal("keep_latest_n_ckp", count))
    with pytest.raises(InputError, match="keep_latest_n_ckp"):
        check(replace(RunConfig(), keep_latest_n_ckp=count))


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(sorted(FIELDS)), value=ANYTHING)
def test_every_value_is_allowed_or_refused_by_name(name: str, value: Any) -> None:
    try:
        check_value(name, value)
    except InputError as refused:
        assert name in str(refused)  # noqa: PT017
    else:
        assert type(value) in (KINDS[name], int)


# --- override


def test_an_override_reports_what_changed_and_nothing_else() -> None:
    base = RunConfig()

    config, changed = override(base, {"epochs": 5, "seed": base.seed, "freeze": "", "div_factor": 25})

    assert changed == {"epochs": [3, 5], "freeze": ["encoder,embeddings", ""]}
    assert config == replace(base, epochs=5, freeze="")
    assert base == RunConfig()


def test_an_override_with_nothing_changes_nothing() -> None:
    assert override(RunConfig(), {}) == (RunConfig(), {})


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_can_be_overridden(name: str) -> None:
    value = another(name)

    config, changed = override(RunConfig(), {name: value})

    assert getattr(config, name) == value
    assert changed == {name: [FIELDS[name].default, value]}


def test_an_override_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="epochs = 0"):
        override(RunConfig(), {"seed": 1, "epochs": 0})


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        RunConfig().seed = 1  # type: ignore[misc]


# --- written down and read back


@pytest.mark.parametrize("name", built_in())
def test_a_preset_is_read_back_from_json_as_it_was(name: str) -> None:
    config = built_in()[name].config

    assert from_json(json.loads(json.dumps(to_json(config), allow_nan=False))) == config


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_read_back_from_json(name: str) -> None:
    config = replace(RunConfig(), **{name: another(name)})

    assert config != RunConfig()
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_settings_of_another_version_get_this_versions_defaults() -> None:
    values = {**to_json(replace(RunConfig(), seed=7)), "colour": "green"}
    del values["epochs"]

    assert from_json(values) == replace(RunConfig(), seed=7)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("epochs", "3"), ("optimizer", "sgd"), ("seed", None)])
def test_a_bad_value_is_not_read_back(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        from_json({name: value})


# --- resume


@pytest.mark.parametrize("name", FIELDS)
def test_a_resume_may_change_only_settings_no_step_depends_on(name: str) -> None:
    then, now = RunConfig(), replace(RunConfig(), **{name: another(name)})

    differences = differences_on_resume(json.loads(json.dumps(to_json(then))), now)

    if setting_of(name).free_on_resume:
        assert differences == {}
    else:
        assert differences == {name: [FIELDS[name].default, another(name)]}


def test_settings_that_affect_a_step_must_stay_on_resume() -> None:
    computing = {
        name
        for name in FIELDS
        if setting_of(name).group in ("training", "model", "learns", "data") and name not in FREE
    }

    assert {name for name in FIELDS if setting_of(name).free_on_resume} >= FREE
    assert not {name for name in computing if setting_of(name).free_on_resume}


def test_a_setting_unknown_to_the_checkpoint_is_no_difference() -> None:
    assert differences_on_resume({"seed": 23333, "colour": "green"}, RunConfig()) == {}


def test_the_out_of_memory_fix_is_allowed_on_resume() -> None:
    config = RunConfig()

    fix = certificate.smaller_budget(RunRecord("sft-1", "sft", "train", to_json(config)), "training")

    assert fix == {"micro_batch_tokens": config.micro_batch_tokens // 2}
    assert differences_on_resume(to_json(config), replace(config, **fix)) == {}


@pytest.mark.parametrize("name", ["output_dir", "pretrained_model", "tokenizer"])
def test_a_folder_whose_name_is_not_utf8_is_refused(name: str) -> None:
    """tokenizers and safetensors take text alone, so that the run would end when it publishes its model."""
    with pytest.raises(InputError, match="are not UTF-8"):
        check_value(name, "model\udcb2")


@pytest.mark.parametrize("name", ["train_file", "output_dir"])
def test_a_path_with_a_nul_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} contains a NUL"):
        check_value(name, "a\0b")


def test_a_data_file_may_have_any_name() -> None:
    check_value("train_file", "rows\udcb2.parquet")


# --- groups


def test_each_group_is_declared_in_one_piece_and_begins_with_what_matters() -> None:
    groups = [setting_of(name).group for name in FIELDS]
    assert list(dict.fromkeys(groups)) == list(GROUPS)
    assert groups == sorted(groups, key=GROUPS.index)
    for group in GROUPS:
        essential = [setting_of(name).essential for name in FIELDS if setting_of(name).group == group]
        assert essential == sorted(essential, reverse=True)
        assert any(essential)
        assert say(f"group.{group}", "en") != say(f"group.{group}", "zh")


def test_the_settings_that_matter_are_few() -> None:
    assert 10 <= sum(setting_of(name).essential for name in FIELDS) <= 16


FOLDER = {"pretrained_model": "models/chat"}


@pytest.mark.parametrize(
    ("names", "values", "family", "applied"),
    [
        ("d_model num_layers num_heads", {"pretrained_model": ""}, "", True),
        ("d_model num_layers num_heads", {"pretrained_model": "weights.bin"}, "", True),
        ("d_model num_layers num_heads", FOLDER, "t5", False),
        ("lora_alpha lora_scaling lora_parts", {"lora_rank": 0}, "", False),
        ("lora_alpha lora_scaling lora_parts", {"lora_rank": 8}, "", True),
        ("chat_template template_options messages_column learn too_long", FOLDER, "causal", True),
        ("chat_template template_options messages_column learn too_long", FOLDER, "", True),
        ("chat_template template_options messages_column learn too_long", FOLDER, "t5", False),
        ("chat_template template_options messages_column learn too_long", FOLDER, "seq2seq", False),
        ("chat_template learn", {"pretrained_model": ""}, "", False),
        ("chat_template learn", {**FOLDER, "family": "causal"}, "t5", True),
        ("encoder_cache", {"freeze": "encoder"}, "t5", True),
        ("encoder_cache", {"freeze": "embeddings, encoder"}, "", True),
        ("encoder_cache", {"freeze": "decoder"}, "t5", False),
        ("encoder_cache", {"freeze": "encoder"}, "causal", False),
        ("warmup_ratio", {"warmup_steps": 0}, "", True),
        ("warmup_ratio", {"warmup_steps": 9}, "", False),
        ("epochs train_file output_dir seed", FOLDER, "causal", True),
    ],
)
def test_a_setting_applies_by_the_others_and_the_family(
    names: str, values: dict[str, Any], family: str, applied: bool
) -> None:
    config = replace(RunConfig(), **values)
    assert {applies(name, config, family) for name in names.split()} == {applied}


def test_the_parts_that_can_be_frozen_are_those_of_the_family() -> None:
    assert parts_of("freeze", RunConfig()) == ("encoder", "decoder", "embeddings")
    assert parts_of("freeze", RunConfig(), "causal") == ("embeddings", "norm", "head")
    assert parts_of("epochs", RunConfig()) == ()
