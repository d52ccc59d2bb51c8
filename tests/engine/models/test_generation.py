"""Generation settings stay with the model, and what could not be published is found before."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from engine.contract.messages import InputError
from engine.models.generation import end_replies_at, read_generation

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a number in words": ({"max_new_tokens": "x"}, "max_new_tokens"),
    "a cache that does not exist": ({"cache_implementation": "evil", "num_beams": 2}, "cache_implementation"),
    "neither yes nor no": ({"early_stopping": "yes"}, "early_stopping"),
    "a watermark of another form": ({"watermarking_config": {"a": 1}}, "watermarking_config"),
}


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_cannot_be_saved_is_named(name: str, file: str, tmp_path: Path) -> None:
    settings, key = BAD[name]
    (tmp_path / file).write_text(json.dumps({"model_type": "t5", **settings}))
    with pytest.raises(InputError) as refused:
        read_generation(tmp_path)
    assert (refused.value.message.args["key"], refused.value.message.args["path"]) == (key, str(tmp_path / file))


@pytest.mark.parametrize("content", ["{not json", "[]", "[" * 100_000, '{"temperature": NaN}', "\xff"])
def test_an_invalid_generation_config_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as refused:
        read_generation(tmp_path)
    assert len(refused.value.message.what("en")) < 400


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "/dev/ptmx", "generation_config.json"])
def test_a_pipe_in_place_of_the_settings_is_not_waited_for(target: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "generation_config.json").symlink_to(target)
    (tmp_path / "config.json").symlink_to(target)
    with pytest.raises(InputError) as refused:
        read_generation(tmp_path)
    assert refused.value.message.code == "generation_bad"


def test_generation_settings_in_an_older_config_are_used(tmp_path: Path) -> None:
    old = {"num_beams": 4, "min_length": 5, "max_length": 20, "no_repeat_ngram_size": 3, "length_penalty": 2.0}
    whole = {"model_type": "t5", "d_model": 32, "task_specific_params": {"x": {"prefix": "a: "}}, **old}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    found = read_generation(tmp_path)
    assert {name: getattr(found, name) for name in old} == old
    found.save_pretrained(tmp_path / "published")
    again = GenerationConfig.from_pretrained(tmp_path / "published")
    assert {name: getattr(again, name) for name in old} == old


@pytest.mark.parametrize("settings", [{"do_sample": False, "temperature": 0.9, "top_p": 0.6}, {"num_beams": 10**7}, {}])
def test_settings_that_can_be_saved_are_accepted(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    read_generation(tmp_path)


@pytest.mark.parametrize(
    ("own", "stops", "ends"),
    [(2, [2], 2), (2, [5], [2, 5]), ([2, 3], [3, 4], [2, 3, 4]), (None, [4], [4]), (1, [], 1)],
)
def test_what_ends_an_answer_ends_a_reply(own: Any, stops: list[int], ends: Any) -> None:
    model = SimpleNamespace(generation_config=GenerationConfig(eos_token_id=own))
    end_replies_at(model, stops)
    assert model.generation_config.eos_token_id == ends
