"""The tokenizer in a GGUF file."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import InputError, Message
from engine.obtaining.gguf_file import GgufFile, read
from engine.obtaining.gguf_tokenizer import require_same_ids, stops_of, tokenizer_of, write_templates
from tests.engine.data.chat.stuck import stuck_templates
from tests.gguf_files import TOKENS, small_llama, write_gguf


def written(folder: Path, **keys: Any) -> GgufFile:
    return read(write_gguf(folder / "tiny.gguf", small_llama(), keys={f"tokenizer.{k}": v for k, v in keys.items()}))


def pieces(tokenizer: Any, text: str) -> list[str]:
    return [TOKENS[number] for number in tokenizer(text, add_special_tokens=False).input_ids]


@pytest.mark.parametrize(
    ("name", "cut"),
    [("smollm", ["Ġ", "1", "2"]), ("gpt-2", ["Ġ", "12"]), ("llama-bpe", ["Ġ", "12"]), ("qwen2", ["Ġ", "1", "2"]),
     ("glm4", ["Ġ", "12"]), ("stablelm2", ["Ġ", "1", "2"])],
)  # fmt: skip
def test_numbers_are_cut_as_the_file_says(tmp_path: Path, name: str, cut: list[str]) -> None:
    notices: list[Message] = []
    tokenizer = tokenizer_of(written(tmp_path, **{"ggml.pre": name}), notices)
    assert pieces(tokenizer, " 12") == cut
    assert notices == []


@pytest.mark.parametrize("name", ["of-tomorrow", None])
def test_an_unknown_way_of_cutting_is_noticed(tmp_path: Path, name: str | None) -> None:
    notices: list[Message] = []
    tokenizer_of(written(tmp_path, **{"ggml.pre": name}), notices)
    assert [notice.code for notice in notices] == ["gguf_cut_unknown"]


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        tokenizer_of(written(tmp_path, **{"ggml.tokens": None}), [])
    assert error.value.message.code == "gguf_no_tokenizer"


def test_a_special_token_that_is_read_in_pieces_is_refused(tmp_path: Path) -> None:
    unmarked = {"ggml.token_type": [1] * len(TOKENS), "ggml.bos_token_id": 0, "ggml.eot_token_id": 1}
    with pytest.raises(InputError) as error:
        tokenizer_of(written(tmp_path, **unmarked), [])
    assert (error.value.message.code, error.value.message.args["token"]) == ("gguf_special_token", "<|im_start|>")


@pytest.mark.parametrize(
    ("keys", "stops"),
    [
        ({}, [2]),
        ({"ggml.eos_token_id": 0}, [2, 0]),
        ({"ggml.eos_token_id": 0, "ggml.eot_token_id": 2}, [2, 0]),
        ({"chat_template": None}, [2]),
        ({"chat_template": "{{ messages[0]['content'] }}"}, [2]),
        ({"chat_template": "{{ raise_exception('no') }}"}, [2]),
        ({"chat_template": "{% for"}, [2]),
        ({"chat_template": "{{ 9 ** (9 ** 9) }}"}, [2]),
        ({"ggml.eos_token_id": 10**6, "chat_template": None}, []),
    ],
)
def test_tokens_that_end_a_reply_are_found(tmp_path: Path, keys: dict[str, Any], stops: list[int]) -> None:
    file = written(tmp_path, **({"ggml.eos_token_id": 2} | keys))
    if file.token("eos") is None:
        assert stops == []
        return
    assert stops_of(file, tokenizer_of(file, [])) == stops


def test_a_template_that_never_ends_is_left(tmp_path: Path) -> None:
    file = written(tmp_path, chat_template="{{ messages[0].content }}")
    with stuck_templates():
        assert stops_of(file, tokenizer_of(file, [])) == [2]


def test_a_tokenizer_saved_otherwise_is_noticed(tmp_path: Path) -> None:
    file = written(tmp_path)
    first, other = tokenizer_of(file, []), tokenizer_of(written(tmp_path, **{"ggml.pre": "gpt-2"}), [])
    require_same_ids(file, first, first)
    with pytest.raises(InputError):
        require_same_ids(file, first, other)


def test_further_templates_are_kept_under_their_names(tmp_path: Path) -> None:
    file = written(tmp_path, **{"chat_template.tool_use": "tools", "chat_template.../../x": "bad"})
    assert write_templates(file, tmp_path) == ["additional_chat_templates/tool_use.jinja"]
    assert (tmp_path / "additional_chat_templates/tool_use.jinja").read_text() == "tools"
