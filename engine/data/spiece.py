"""A SentencePiece model (spiece.model) as a tokenizer of the tokenizers library that produces the same ids.

transformers has a converter for each published family, with that family's own ids hard-coded: every T5's unknown
token becomes 2, and every BPE a unigram. Here each value comes from the file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import import_protobuf

from engine.contract.inputs import PIECES
from engine.contract.messages import InputError
from engine.contract.texts import Phrase

SPACE = "▁"  # represents a space within pieces
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4  # model types of sentencepiece_model.proto
NORMAL, UNKNOWN, USER_DEFINED = 1, 2, 4  # types of pieces
PLACES = range(0x10FF00, 0x10FFFE)  # private-use characters, for user-defined pieces that the table would change
SPECIAL = ("pad", "eos", "unk", "bos")


def spiece_file(folder: Path) -> Path | None:
    """The SentencePiece model in a folder, if there is one."""
    return next((folder / name for name in PIECES if (folder / name).is_file()), None)


def read_spiece(path: Path) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer and its special tokens by name; raises InputError for unsupported models, and protobuf's errors."""
    proto = import_protobuf().ModelProto.FromString(path.read_bytes())
    spec = proto.trainer_spec
    if spec.model_type == WORD or spec.treat_whitespace_as_suffix:
        kind = "words" if spec.model_type == WORD else "suffixes"
        why = Phrase.of(f"why.spiece_{kind}", file=path.name)
        raise InputError("tokenizer_bad", path=str(path.parent), why=why)
    own = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    tokenizer = Tokenizer(_bpe(proto, own) if spec.model_type == BPE else _unigram(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec, own)
    if own and spec.model_type == BPE:  # never split, whatever would be merged; in a unigram their scores ensure that
        longest_first = "|".join(map(re.escape, sorted(own, key=len, reverse=True)))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), "isolated")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    prefixed = [decoders.Strip(" ", 1, 0)] if proto.normalizer_spec.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence([*steps, *prefixed])
    ids = {name: getattr(spec, f"{name}_id") for name in SPECIAL}
    special = {name: proto.pieces[number].piece for name, number in ids.items() if 0 <= number < len(proto.pieces)}
    return tokenizer, special


def _unknown(proto: Any) -> int:
    return next((number for number, piece in enumerate(proto.pieces) if piece.type == UNKNOWN), 0)


def _unigram(proto: Any) -> models.Unigram:
    # SentencePiece's search for the highest score starts from the smallest positive number, and may end there.
    highest = max((piece.score for piece in proto.pieces if piece.type == NORMAL and piece.score > 0), default=0.0)
    pieces = [
        # As SentencePiece scores them when encoding: by their length in bytes.
        (piece.piece, len(piece.piece.encode()) * highest - 0.1 if piece.type == USER_DEFINED else piece.score)
        for piece in proto.pieces
    ]
    return models.Unigram(pieces, unk_id=_unknown(proto), byte_fallback=proto.trainer_spec.byte_fallback)


def _bpe(proto: Any, own: list[str]) -> models.BPE:
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    merges = sorted(_merges(proto, ids), key=lambda merge: (-merge[0], ids[merge[1]], ids[merge[2]]))
    return models.BPE(
        ids,
        [(left, right) for _, left, right in merges],
        unk_token=proto.pieces[_unknown(proto)].piece,
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
        ignore_merges=bool(own),
    )


def _merges(proto: Any, ids: dict[str, int]) -> Iterator[tuple[float, str, str]]:
    """Every pair of pieces that forms a third, with the score of the third: SentencePiece merges by the result."""
    for piece in proto.pieces:
        if piece.type != NORMAL:
            continue
        for cut in range(1, len(piece.piece)):
            left, right = piece.piece[:cut], piece.piece[cut:]
            if left in ids and right in ids:
                yield piece.score, left, right


def _normalizer(spec: Any, own: list[str]) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    kept: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        table = normalizers.Precompiled(spec.precompiled_charsmap)
        changed = [piece for piece in own if " " not in piece and table.normalize_str(piece) != piece]
        for place, piece in zip(PLACES, sorted(changed, key=len, reverse=True), strict=False):
            steps.append(normalizers.Replace(piece, chr(place)))
            kept.append(normalizers.Replace(chr(place), piece))
        # Precompiled looks up a letter with its marks as one and drops marks without an entry; from 6 bytes on it looks
        # up each character separately. If the table composes, NFC composes before it, and half-width kana after it.
        composes = table.normalize_str("e\u0301") == "\u00e9"
        steps += [normalizers.NFC(), table, normalizers.NFC()] if composes else [table]
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence([*steps, *kept])
