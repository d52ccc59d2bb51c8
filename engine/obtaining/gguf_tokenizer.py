"""The tokenizer in a GGUF file: as transformers reads it, with the way of cutting text that the file names."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.messages import InputError, Message
from engine.data.bounded import done_in_time
from engine.data.chat.templates import ChatTemplate
from engine.obtaining.gguf_file import GgufFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTROL = 3  # the type of a token that is never text
END_ROLES = ("eos", "eot", "eom")
# How llama.cpp cuts text before it looks for tokens, by the names that files give (tokenizer.ggml.pre).
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")  # one digit at a time
PLAIN = ("gpt-2", "mpt", "olmo", "jais", "granite-docling", "trillion")  # as GPT-2 does
LIKE = {"stablelm2": "qwen2", "hunyuan": "qwen2", "glm4": "llama-bpe", "chatglm-bpe": "llama-bpe"}
SAMPLES = (
    "Hello, world!  Two spaces, 12345 and 3.14.\n\n\tdef f(x):\n    return x ** 2  # ok",
    "你好，世界！今天是2026年11月29日。",
    "naïve café Ünïcödé 🙂🙃 I'm, you'll, WE'VE", "  leading and trailing  ", "الرقم ٤٢ и число 1000",
)  # fmt: skip


def tokenizer_of(file: GgufFile, notices: list[Message]) -> "PreTrainedTokenizerBase":
    """The tokenizer of a file; raises InputError, and what transformers raises."""
    from transformers import PreTrainedTokenizerFast

    if not file.tokens:
        raise InputError("gguf_no_tokenizer", path=str(file.path))
    # Not AutoTokenizer, which would parse the whole file again to choose this class.
    found: Any = PreTrainedTokenizerFast.from_pretrained(
        str(file.path.parent), gguf_file=file.path.name, local_files_only=True
    )
    if file.keys.get("tokenizer.ggml.model") == "gpt2":
        _cut_as_named(found, str(file.keys.get("tokenizer.ggml.pre") or ""), notices)
    if isinstance(context := file.own("context_length"), int):
        found.model_max_length = context
    require_same_tokens(file, found)
    return found  # type: ignore[no-any-return]


def _cut_as_named(tokenizer: Any, name: str, notices: list[Message]) -> None:
    """Sets the way of cutting text, where transformers does not know the name; a notice if nobody here does."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    backend, byte_level = tokenizer.backend_tokenizer, pre_tokenizers.ByteLevel
    if name in DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level(add_prefix_space=False)])
    elif name in LIKE:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[LIKE[name]]), behavior="isolated")
        plain = byte_level(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    elif name not in GGUF_PRE_TOKENIZER_SPLITS and name not in PLAIN:
        notices.append(Message.of("gguf_cut_unknown", name=name[:60] or "-"))


def require_same_tokens(file: GgufFile, tokenizer: Any) -> None:
    """Raises InputError if special tokens of the file are not the same single tokens of the tokenizer."""
    for role in ("bos", *END_ROLES, "padding"):
        number = file.token(role)
        if number is not None:
            text = tokenizer.convert_ids_to_tokens(number)
            ids = tokenizer.encode(str(text), add_special_tokens=False)
            if ids != [number]:
                raise InputError("gguf_special_token", path=str(file.path), token=file.tokens[number][:60], role=role)


def require_same_ids(file: GgufFile, first: Any, saved: Any) -> None:
    """Raises InputError if the tokenizer that was saved does not give the same tokens."""
    same = len(first) == len(saved) and all(first(text).input_ids == saved(text).input_ids for text in SAMPLES)
    if not same or first.chat_template != saved.chat_template:
        raise InputError("gguf_tokenizer_differs", path=str(file.path))


def stops_of(file: GgufFile, tokenizer: Any) -> list[int]:
    """The tokens that end a reply: those the file names, and the one that ends an answer in its chat template."""
    named = [number for role in END_ROLES if (number := file.token(role)) is not None]
    if tokenizer.chat_template and (ending := _end_of_an_answer(file, tokenizer)) is not None:
        named = [ending, *named]
    return list(dict.fromkeys(named))


def _end_of_an_answer(file: GgufFile, tokenizer: Any) -> int | None:
    """The first control token after an answer, as the chat template writes it."""
    answer = "Sapphire"
    talk = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": answer}]
    template = ChatTemplate(tokenizer, str(file.path), None)
    try:
        rendering = partial(template.render, talk, None, prompt=False)
        text = done_in_time(rendering, template.name, 0, template.at_work)
    except InputError:  # then the tokens that the file names must do
        return None
    ids = tokenizer.encode(text.rpartition(answer)[2], add_special_tokens=False)
    kinds = file.keys.get("tokenizer.ggml.token_type")
    kinds = kinds if isinstance(kinds, list) else []
    return next((number for number in ids if number < len(kinds) and kinds[number] == CONTROL), None)


def write_templates(file: GgufFile, folder: Path) -> list[str]:
    """Writes the further chat templates of a file, each under its name; returns the names of the files."""
    prefix, written = "tokenizer.chat_template.", []
    for key, text in file.keys.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and isinstance(text, str) and name.replace("_", "").replace("-", "").isalnum():
            path = folder / "additional_chat_templates" / f"{name[:60]}.jinja"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(str(path.relative_to(folder)))
    return written
