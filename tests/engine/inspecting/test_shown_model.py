"""What a model's folder holds, and what training it takes."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.durable import write_json
from engine.contract.facts import TokenizerFacts
from engine.contract.messages import InputError, Message
from engine.contract.model_reports import ShownModel, TemplateFacts
from engine.contract.requests import ShowRequest
from engine.inspecting import data_facts, shown_model
from engine.obtaining.gguf_file import read
from engine.obtaining.gguf_tokenizer import tokenizer_of
from tests.engine.data.chat.stuck import stuck_templates
from tests.gguf_files import TEMPLATE, TOKENS, small_llama, write_gguf

DROPS = (
    "{% for message in messages %}{% set text = message['content'] %}"
    "{% if message['role'] == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def torch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch stays visible to other tests."""
    for module in (shown_model, data_facts):
        monkeypatch.setattr(module, "hide_torch", lambda: None)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    net = small_llama(eos_token_id=2, bos_token_id=1, pad_token_id=2)
    net.save_pretrained(folder)
    file = read(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", net))
    tokenizer_of(file, []).save_pretrained(folder)
    return folder


def shown(path: Path) -> ShownModel:
    found = shown_model.shown_model(ShowRequest(str(path)))
    assert as_json(read_as(ShownModel, as_json(found))) == as_json(found)
    return found


def with_template(llama: Path, folder: Path, template: str | None) -> Path:
    for path in llama.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def template_of(found: ShownModel) -> TemplateFacts:
    assert isinstance(found.template, TemplateFacts)
    return found.template


def test_a_chat_model_is_shown_with_its_template(llama: Path) -> None:
    found = shown(llama)
    assert (found.model.title, found.model.kind, found.model.dtype) == ("tiny-llama", "causal", "fp32")
    assert isinstance(found.tokenizer, TokenizerFacts)
    assert found.tokenizer.tokens == len(TOKENS)
    template = template_of(found)
    assert (template.kind, template.stop, template.one_row, template.keeps_thoughts) == (
        "ChatML", "<|im_end|>", True, True,
    )  # fmt: skip
    assert template.example.count("<|im_end|>") == 4


def test_a_template_that_drops_thoughts_is_noticed(llama: Path, tmp_path: Path) -> None:
    template = template_of(shown(with_template(llama, tmp_path, DROPS)))
    assert not template.keeps_thoughts
    assert template.stop == "<|im_end|>"


@pytest.mark.parametrize(
    ("template", "code"),
    [
        (None, "chat_template_missing"),
        ("{% for", "chat_template_bad"),
        ("{{ 9 ** (9 ** 9) }}", "chat_template_bad"),
        ("{{ raise_exception('no') }}", "template_refuses_talk"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(llama: Path, tmp_path: Path, template: str | None, code: str) -> None:
    found = shown(with_template(llama, tmp_path, template))
    assert isinstance(found.template, Message)
    assert found.template.code == code
    assert found.template.text("zh") != found.template.text("en")


def test_a_template_that_never_ends_says_so(llama: Path, tmp_path: Path) -> None:
    with stuck_templates():
        found = shown(with_template(llama, tmp_path, "{{ messages[0].content }}"))
    assert isinstance(found.template, Message)
    assert found.template.code == "chat_template_bad"
    assert "may never end" in found.template.what()


def test_each_way_of_training_has_its_memory_and_its_settings(llama: Path) -> None:
    ways = {need.way: need for need in shown(llama).needs}
    assert list(ways) == ["whole", "frozen", "lora"]
    assert ways["whole"].bytes >= ways["frozen"].bytes
    assert ways["whole"].trained > ways["frozen"].trained > 0
    assert ways["whole"].settings == {}
    assert ways["frozen"].settings == {"freeze": "embeddings,layers.0-0"}
    assert (ways["lora"].preset, ways["lora"].settings) == ("chat-lora", {})


def test_a_t5_is_trained_with_its_own_tokenizer(tiny_t5: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    for folder in (tiny_tokenizer, tiny_t5):
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    found = shown(tmp_path)
    assert found.template is None
    ways = {need.way: need for need in found.needs}
    assert ways["whole"].settings == {"tokenizer": "", "freeze": ""}
    assert ways["frozen"].settings == {"tokenizer": ""}  # the preset's
    assert ways["frozen"].trained < ways["whole"].trained


def test_a_model_without_a_tokenizer_is_shown_too(tiny_t5: Path) -> None:
    assert shown(tiny_t5).tokenizer is None


def test_where_a_model_came_from_is_shown(llama: Path, tmp_path: Path) -> None:
    folder = with_template(llama, tmp_path, TEMPLATE)
    size = (folder / "config.json").stat().st_size
    said: dict[str, Any] = {"id": "me/tiny", "revision": "abc", "licence": "mit", "files": {"config.json": size}}
    write_json(folder / "SOURCE.json", said)
    found = shown(folder)
    assert (found.source, found.revision, found.licence) == ("me/tiny", "abc", "mit")


def test_what_is_not_a_model_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError) as error:
        shown(tmp_path)
    assert error.value.message.code == "model_kind"
    with pytest.raises(InputError) as error:
        shown(tmp_path / "missing")
    assert error.value.message.code == "file_missing"
