"""Tokenizers as people have them: each loads as what it is, or is refused in words that help."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, BertTokenizer

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.data import demo_corpus
from engine.data.encoding import encode
from engine.data.tokenizer import load_tokenizer, require_own_vocabulary, save_tokenizer, tokens_needed
from tests.engine.data.test_spiece import GUIDES, T5S


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Questions and answers."""
    return [text for pair in demo_corpus.pairs() for text in pair][:400]


@pytest.fixture
def pieces(texts: list[str], tmp_path: Path) -> Any:
    """Makes the folder of a tokenizer that has only a spiece.model, and settings where some are given."""

    def make(settings: dict[str, Any] | None = None, name: str = "spiece.model", **how: Any) -> Path:
        folder = tmp_path / "pieces"
        folder.mkdir(exist_ok=True)
        limits = {"vocab_size": 500, "hard_vocab_limit": False, "character_coverage": 0.98, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=str(folder / "m"), **{**limits, **(how or GUIDES)}
        )
        (folder / "m.model").rename(folder / name)
        (folder / "m.vocab").unlink()
        if settings is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    return make


def own_ids(folder: Path, texts: list[str], name: str = "spiece.model") -> list[list[int]]:
    """What SentencePiece makes of texts."""
    found: list[list[int]] = sentencepiece.SentencePieceProcessor(model_file=str(folder / name)).encode(texts)
    return found


GUIDES_SETTINGS = {
    "tokenizer_class": "T5Tokenizer",
    "extra_ids": 0,
    **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "eos", "unk", "bos")},
}


@pytest.mark.parametrize("settings", [None, GUIDES_SETTINGS], ids=["alone", "with settings"])
def test_a_spiece_model_encodes_as_sentencepiece_does(
    pieces: Any, texts: list[str], settings: dict[str, Any] | None
) -> None:
    folder = pieces(settings)
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id) == (0, 1, 3)
    wanted = [[*ids, 3] for ids in own_ids(folder, texts)]
    assert sum(ids.count(1) for ids in wanted) > 10
    assert encode(texts, tokenizer) == wanted
    assert tokens_needed(tokenizer) == 500


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model", "sentencepiece.bpe.model"])
def test_a_t5_spiece_model_has_its_sentinels_after_the_pieces(pieces: Any, texts: list[str], name: str) -> None:
    folder = pieces({"tokenizer_class": "T5Tokenizer"}, name, **T5S)
    tokenizer = load_tokenizer(str(folder))
    size = tokens_needed(tokenizer) - 100
    assert tokenizer.convert_tokens_to_ids(["<extra_id_99>", "<extra_id_0>"]) == [size, size + 99]
    assert encode(texts, tokenizer) == [[*ids, 1] for ids in own_ids(folder, texts, name)]


def test_added_tokens_keep_their_ids(pieces: Any) -> None:
    added = {"500": {"content": "<user>"}, "503": {"content": "</s>", "special": True}, "1": {"content": "[UNK]"}}
    folder = pieces({**GUIDES_SETTINGS, "eos_token": "</s>", "unk_token": "<unk>", "added_tokens_decoder": added})
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<user>")) == (503, 500)
    assert tokenizer.unk_token_id == 1  # the pieces' own, though a setting calls it otherwise
    assert encode(["<user>龘"], tokenizer)[0][-3:] == [*own_ids(folder, ["龘"])[0], 503][-3:]


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_broken_spiece_model_is_reported_in_our_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path))
    assert not {"pip", "tiktoken", "http", "trust_remote_code"} & set(refused.value.message.what("en").split())
    assert "tiktoken" not in refused.value.message.what("zh")


@pytest.mark.parametrize("kind", ["T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", None])
def test_the_tokenizer_json_of_a_t5_is_used_as_it_is(pieces: Any, texts: list[str], kind: str | None) -> None:
    folder = pieces()
    tokenizer = load_tokenizer(str(folder))
    wanted = encode(texts, tokenizer)
    saved = folder.parent / "saved"
    tokenizer.save_pretrained(saved)
    settings = json.loads((saved / "tokenizer_config.json").read_text())
    (saved / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": kind, "extra_ids": 0}))
    assert encode(texts, load_tokenizer(str(saved))) == wanted


def test_another_familys_unigram_keeps_its_unknown_token(pieces: Any) -> None:
    folder = pieces()
    saved = folder.parent / "saved"
    load_tokenizer(str(folder)).save_pretrained(saved)
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "[PAD]", "eos_token": "[EOS]"}
    settings |= {"unk_token": "[UNK]", "bos_token": "[BOS]", "cls_token": "[BOS]", "sep_token": "[EOS]"}
    (saved / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(str(saved))
    strange = tokenizer.encode("龘靐", add_special_tokens=False)
    assert tokenizer.unk_token_id == 1
    assert 1 in strange
    assert tokenizer.pad_token_id not in strange


def test_a_saved_tokenizer_loads_in_transformers_4(pieces: Any, texts: list[str], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(pieces()))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>"]})
    save_tokenizer(tokenizer, tmp_path / "saved")
    settings = json.loads((tmp_path / "saved/tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(settings.get("extra_special_tokens", {}), list)  # an error to transformers 4
    again = load_tokenizer(str(tmp_path / "saved"))
    assert encode([*texts, "<user>你好"], again) == encode([*texts, "<user>你好"], tokenizer)
    assert again.all_special_tokens == tokenizer.all_special_tokens
    assert Tokenizer.from_file(str(tmp_path / "saved/tokenizer.json")).to_str() == tokenizer.backend_tokenizer.to_str()


def test_a_tokenizer_of_another_class_keeps_its_class(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "你", "好"]))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "eos_token": "[SEP]"}')
    save_tokenizer(load_tokenizer(str(tmp_path)), tmp_path / "saved")
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path / "saved"), BertTokenizer)


def test_a_missing_token_is_proposed_by_its_likely_name(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "你", "好"]))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path))
    assert (refused.value.message.args["token"], refused.value.message.args["likely"]) == ("eos", "[SEP]")


@pytest.mark.parametrize(
    ("tokens", "template", "likely"),
    [
        (("<|endoftext|>", "<|im_end|>"), "", "<|im_end|>"),
        (("<|endoftext|>", "<|im_end|>"), "{{ '<|im_start|>' + text + '<|im_end|>' }}", "<|im_end|>"),
        (("<eos>", "<end_of_turn>"), "<start_of_turn>{{ text }}<end_of_turn>", "<end_of_turn>"),
        (("<|im_end|>", "[EOS]"), "[INST] {{ text }} [/INST][EOS]", "[EOS]"),
        (("<|im_end|>", "[EOS]"), "{{ text }}{{ eos_token }}", "<|im_end|>"),
        (("<|endoftext|>",), "", "<|endoftext|>"),
        (("[PAD]",), "", ""),
    ],
)
def test_a_missing_end_is_likely_what_ends_the_templates_turns(
    tmp_path: Path, tokens: tuple[str, ...], template: str, likely: str
) -> None:
    words = {word: number for number, word in enumerate(("[UNK]", "a", *tokens))}
    Tokenizer(WordLevel(words, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path), ("eos",))
    assert refused.value.message.args["likely"] == likely


@pytest.mark.parametrize("files", [(), ("README.md",), ("config.json",)])
def test_a_folder_without_a_tokenizer_is_reported_as_one(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text('{"model_type": "t5"}')
    with pytest.raises(InputError, match="none of a tokenizer's files"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("settings", [{"auto_map": {"AutoTokenizer": [None, "x.y"]}, "tokenizer_class": "Evil"}])
def test_foreign_code_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path))
    said = refused.value.message.what("en") + refused.value.message.fix("en")
    assert "never run" in said
    assert "trust_remote_code" not in said
    assert "http" not in said


def test_a_normalizer_that_explodes_text_is_refused_at_once(tiny_tokenizer: Path, tmp_path: Path) -> None:
    folder = changed(
        tiny_tokenizer, tmp_path, normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**6}
    )
    with pytest.raises(InputError, match="makes 1,000,000 characters"):
        load_tokenizer(str(folder))


def changed(folder: Path, tmp_path: Path, **parts: Any) -> Path:
    """A copy of a tokenizer with other parts."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    whole = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps({**whole, **parts}))
    return copy


# --- compared with the model's own


def of_model(folder: Path, tokenizer: Path) -> RunConfig:
    """Settings with a model's folder and another tokenizer."""
    return RunConfig(pretrained_model=str(folder), tokenizer=str(tokenizer))


def test_a_vocabulary_other_than_the_models_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    whole = json.loads((tiny_tokenizer / "tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    swapped = {**vocabulary, "你": vocabulary["好"], "好": vocabulary["你"]}
    other = changed(tiny_tokenizer, tmp_path, model={**whole["model"], "vocab": swapped})
    with pytest.raises(InputError) as refused:
        require_own_vocabulary(load_tokenizer(str(other)), of_model(tiny_tokenizer, other))
    assert (refused.value.message.code, refused.value.message.args["count"]) == ("tokenizer_differs", 2)


def more_tokens(tokenizer: Any) -> None:
    """Tokens added behind the vocabulary."""
    tokenizer.add_tokens(["<user>", "<bot>"])


def other_names(tokenizer: Any) -> None:
    """Nothing but what a token is called."""
    tokenizer.add_special_tokens({"bos_token": "[EOS]"})


@pytest.mark.parametrize("change", [more_tokens, other_names])
def test_the_models_tokenizer_with_added_tokens_is_accepted(tiny_tokenizer: Path, tmp_path: Path, change: Any) -> None:
    tokenizer = load_tokenizer(str(tiny_tokenizer))
    change(tokenizer)
    save_tokenizer(tokenizer, tmp_path / "more")
    require_own_vocabulary(load_tokenizer(str(tmp_path / "more")), of_model(tiny_tokenizer, tmp_path / "more"))
    require_own_vocabulary(load_tokenizer(str(tiny_tokenizer)), of_model(tmp_path / "more", tiny_tokenizer))


def test_reserved_ids_may_be_used(tmp_path: Path) -> None:
    for name, word in (("model", "[unused1]"), ("mine", "吗")):
        folder = tmp_path / name
        folder.mkdir()
        words = ["[PAD]", word, "[UNK]", "[CLS]", "[SEP]", "[MASK]", "你", "好"]
        (folder / "vocab.txt").write_text("\n".join(words))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "eos_token": "[SEP]"}')
    mine = load_tokenizer(str(tmp_path / "mine"))
    require_own_vocabulary(mine, of_model(tmp_path / "model", tmp_path / "mine"))


@pytest.mark.parametrize("named", [5, None, ["a", "b"], {"AutoTokenizer": 5}, {"AutoTokenizer": ["evil.Evil", None]}])
def test_code_named_by_a_tokenizer_is_not_run_and_not_needed(
    tiny_tokenizer: Path, tmp_path: Path, named: object
) -> None:
    folder = shutil.copytree(tiny_tokenizer, tmp_path / "tokenizer")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Evil: ...\n")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "auto_map": named}))
    (found,), (sound,) = (encode(["你好"], load_tokenizer(str(place))) for place in (folder, tiny_tokenizer))
    assert found == sound
    assert not (tmp_path / "canary").exists()


def test_only_the_tokens_that_a_family_needs_are_required(tiny_tokenizer: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_tokenizer, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    assert load_tokenizer(str(tmp_path), ()).pad_token_id is None
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path), ("pad", "eos"))
    assert (refused.value.message.code, refused.value.message.args["token"]) == ("tokenizer_token_missing", "pad")
