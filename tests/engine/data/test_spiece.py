"""A SentencePiece model gives the ids that SentencePiece gives, whatever it was trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from engine.contract.messages import InputError
from engine.data import demo_corpus
from engine.data.spiece import read_spiece

GUIDES = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": 2,
    "eos_id": 3,
    "pad_piece": "[PAD]",
    "unk_piece": "[UNK]",
    "bos_piece": "[BOS]",
    "eos_piece": "[EOS]",
}
T5S = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
KINDS: dict[str, dict[str, Any]] = {
    "unigram with the ids of the guide": GUIDES,
    "unigram with the ids of T5": T5S,
    "BPE": {**T5S, "model_type": "bpe"},
    "BPE with bytes": {**T5S, "model_type": "bpe", "byte_fallback": True},
    "unigram with bytes": {**T5S, "byte_fallback": True},
    "characters": {**T5S, "model_type": "char"},
    "no charsmap": {**GUIDES, "normalization_rule_name": "identity"},
    "folded case": {**GUIDES, "normalization_rule_name": "nmt_nfkc_cf", "split_by_whitespace": False},
    "spaces as they are": {**T5S, "add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "words of one's own": {**GUIDES, "user_defined_symbols": ["[SEP]", "北京"]},
    "words of one's own in BPE": {**T5S, "model_type": "bpe", "user_defined_symbols": ["[SEP]", "北京", "北京大学"]},
    "words of one's own within others": {**T5S, "user_defined_symbols": ["什么", "的", "你"]},
    "words of one's own that the table would change": {**T5S, "user_defined_symbols": ["\n", "\t", "Ａ", "①②"]},
}
ODD = [
    "",
    " ",
    "  两  个  空格 ",
    "全角　空格\t与\n换行",
    "ＡＢＣ １２３ ｱｲｳ ﬁ ㈱",
    "e\u0301 \u200b零宽",
    "𠮷😀😀",
    "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "か\u3099き\u3099 ｶﾞｷﾞ ﾊﾟｿｺﾝ",
    "Vie\u0323\u0302t ①②③ Ａ～Ｂ",
    "\x00\x01\x7f\x85\u2028\ufeff▁▁\u202e\ue000\U0010ffff",
    "👨\u200d👩\u200d👧 👍🏽 🇨🇳 ™️",
    "长" * 3000 + "a" * 3000,
    "北京大学[SEP]x",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Questions and answers in Chinese and English, and odd ones."""
    return [text for pair in demo_corpus.pairs() for text in pair][:1500]


@pytest.fixture(scope="module")
def trained(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a model on some of the texts, so that others have characters that it does not know."""
    folder = tmp_path_factory.mktemp("pieces")

    def train(name: str, **how: Any) -> Path:
        path = folder / f"{name}.model"
        some = iter(texts[::4])
        limits = {"vocab_size": 700, "hard_vocab_limit": False, "character_coverage": 0.99, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=some, model_prefix=str(path.with_suffix("")), **{**limits, **how}
        )
        return path

    return train


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_sentencepiece_itself(kind: str, texts: list[str], trained: Callable[..., Path]) -> None:
    path = trained(kind, **KINDS[kind])
    itself = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer, special = read_spiece(path)
    wanted = itself.encode([*texts, *ODD])
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast([*texts, *ODD], add_special_tokens=False)]
    assert found == wanted
    assert any(itself.unk_id() in ids for ids in wanted) != bool(KINDS[kind].get("byte_fallback"))
    assert special["unk"] == itself.id_to_piece(itself.unk_id())
    known = [ids for ids in wanted if itself.unk_id() not in ids]
    assert [tokenizer.decode(ids, skip_special_tokens=False) for ids in known] == itself.decode(known)


def test_a_model_with_trailing_spaces_is_refused(trained: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="spaces as suffixes"):
        read_spiece(trained("suffix", **T5S, treat_whitespace_as_suffix=True))
