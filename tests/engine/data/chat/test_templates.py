"""Chat templates: found, rendered, and harmless whatever they try."""

import resource
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.contract.template_options import parsed_options
from engine.data.chat import templates
from engine.data.chat.templates import CHATML, ChatTemplate
from engine.data.shapes.account import RefusedError
from tests.engine.data.chat.kinds import KINDS, byte_tokenizer

TALK = [{"role": "user", "content": "Hi"}]


def template(text: str) -> ChatTemplate:
    return ChatTemplate(byte_tokenizer(eos="</s>"), "model", text)


def test_the_template_is_the_tokenizers_or_the_one_that_is_named(tmp_path: Path) -> None:
    tokenizer, file = KINDS["smollm2"].tokenizer(), tmp_path / "own.jinja"
    file.write_text("{{ messages[0].content }} {{ who }}")
    own = "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert ChatTemplate.of(tokenizer, "", "").render(TALK, None, prompt=False) == own
    assert (
        ChatTemplate.of(tokenizer, "chatml", "").render(TALK, None, prompt=False) == "<|im_start|>user\nHi<|im_end|>\n"
    )
    assert ChatTemplate.of(tokenizer, str(file), "who=you").render(TALK, None, prompt=False) == "Hi you"


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        ChatTemplate.of(byte_tokenizer(eos="</s>"), "", "")
    assert refused.value.message.code == "chat_template_missing"
    assert "--chat_template chatml" in refused.value.message.fix()


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * ((1 << 20) + 1)], ids=["missing", "not UTF-8", "large"])
def test_a_file_that_is_not_a_template_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "t.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        ChatTemplate.of(byte_tokenizer(eos="</s>"), str(path), "")
    assert refused.value.message.code == "chat_template_bad"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{% for m in messages %}", "Unexpected end"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'x' * 90000000 }}", "memory"),
        ("{{ 'x'.center(10 ** 9) }}", "memory"),
        ("{{ '%999999999d' | format(1) }}{{ '%999999999d' % 1 }}", "memory"),
        ("{{ '{:>999999999}'.format(1) }}", "memory"),
        ("{{ [0] * 10 ** 9 }}", "memory"),
        ("{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}", "characters of a conversation"),
    ],
)
def test_a_hostile_template_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    monkeypatch.setattr(templates, "MOST_MEMORY", 50 << 20)
    with pytest.raises(InputError) as refused:
        template(text).render(TALK, None, prompt=False)
    assert refused.value.message.code == "chat_template_bad"
    assert why in refused.value.message.what()


def test_what_a_template_says_is_bounded_and_harmless() -> None:
    with pytest.raises(RefusedError) as refused:
        template("{{ raise_exception('no\x1b[31m!' + 'x' * 5000) }}").render(TALK, None, prompt=False)
    assert refused.value.detail.startswith("no␛[31m!xxx")
    assert len(refused.value.detail) <= 200


@pytest.mark.parametrize("text", ["{{ messages[5].content.split('x') }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}"])
def test_an_error_of_an_expression_refuses_the_conversation(text: str) -> None:
    with pytest.raises(RefusedError):
        template(text).render(TALK, None, prompt=False)


def test_templates_with_other_options_are_other_templates() -> None:
    tokenizer = KINDS["qwen3"].tokenizer()
    made = {
        ChatTemplate.of(tokenizer, *how).identity for how in [("", ""), ("", "a=1"), ("chatml", ""), ("chatml", "")]
    }
    assert len(made) == 3
    tokenizer.chat_template = CHATML
    assert ChatTemplate.of(tokenizer, "", "").identity == ChatTemplate.of(tokenizer, "chatml", "").identity


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        ("enable_thinking=false", ()),
        ("enable_thinkin=false", ("enable_thinkin",)),
        ("thinking=1,enable_thinking=true,date=2020", ("thinking", "date")),
        ("", ()),
    ],
)
def test_options_that_do_not_occur_in_it_are_known(options: str, unused: tuple[str, ...]) -> None:
    text = "{% if enable_thinking %}<think>\n{% endif %}{{ messages[0].content }}\ndates"
    found = ChatTemplate(byte_tokenizer(eos="</s>"), "model", text, parsed_options(options)).unused_options
    assert found == unused


@pytest.mark.parametrize("ends_first", [0, 1, 2])
def test_templates_at_work_together_leave_the_memory_as_it_was(ends_first: int) -> None:
    """One that was given up may still be at work when the next one begins, and end first, last, or in between."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    at_work = [template("")._limited() for _ in range(3)]
    for one in at_work:
        one.__enter__()
    at_work.pop(ends_first).__exit__(None, None, None)
    for one in at_work:
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
        one.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_template_that_fails_leaves_the_memory_as_it_was() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(RefusedError):
        template("{{ raise_exception('no') }}").render(TALK, None, prompt=False)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_smaller_limit_of_the_shell_stays_while_a_template_is_at_work() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    small = templates._data_now() + templates.MOST_MEMORY // 2
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (small, before[1]))
        with template("")._limited():
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == small
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == small
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
