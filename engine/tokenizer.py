"""The tokenizer: loaded and checked, or trained on rows of one's own; needs transformers, but no torch."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.files import staged as staged_at
from engine.contract.messages import InputError
from engine.foreign import one_line, reading_foreign

SPECIAL = ("[PAD]", "[EOS]", "[UNK]")
SCORE_DIGITS = 9  # the trainer's sums differ beyond them from one time to the next
DROPPED_STEP = 1e-4


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder `path`, with pad and end tokens checked; raises InputError."""
    with reading_foreign("tokenizer_bad", path):
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        # As it will be used: some settings are found wanting only then.
        tokenizer(["a"], add_special_tokens=True, truncation=False, verbose=False)
    for name in ("pad", "eos"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            raise InputError("tokenizer_token_missing", path=path, token=name)
    return tokenizer


def tokens_needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many rows of embeddings the tokenizer can ask for: its highest id and one."""
    used = tokenizer(["a"], add_special_tokens=True, truncation=False, verbose=False)["input_ids"][0]
    return max((*tokenizer.get_vocab().values(), *used), default=0) + 1


def train_tokenizer(folder: Path, texts: Iterable[str], vocabulary: int) -> int:
    """Trains a Unigram tokenizer (at most `vocabulary` tokens) that ends every text with its end token; its tokens.

    No space is put before Chinese. Few texts make fewer tokens; the same texts make the same tokenizer. Raises
    InputError where the folder is in use or the vocabulary has no place for each character.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("tokenizer_exists", path=str(folder))
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), unk_token=SPECIAL[2], show_progress=False
    )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # the only kind that tokenizers raises
        if "not large enough" not in str(error):
            raise
        raise InputError("vocabulary_small", vocabulary=vocabulary) from None
    tokenizer = _in_one_order(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[(SPECIAL[1], 1)])
    names = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    staged = staged_at(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(staged)
        if folder.exists():
            folder.rmdir()
        staged.rename(folder)
    except Exception as error:  # tokenizers raises its own where it cannot write
        why = one_line(error)
        raise InputError("folder_unwritable", path=str(folder), why=why, setting="output") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return tokenizer.get_vocab_size()


def _in_one_order(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without what its trainer left to the order of a hash table.

    That is the order of pieces with like scores, and the scores of single characters that training dropped: they are
    put back at its end, the first with the lowest score of all, each further one a `DROPPED_STEP` above.
    """
    content = json.loads(tokenizer.to_str())
    pieces = content["model"]["vocab"]
    scores = {piece: round(score, SCORE_DIGITS) for piece, score in pieces[len(SPECIAL) :]}
    characters = {piece: score for piece, score in scores.items() if len(piece) == 1}
    level, levels = min(scores.values(), default=0.0), set[float]()
    while level in characters.values():
        levels.add(level)
        level = round(min(levels) + len(levels) * DROPPED_STEP, SCORE_DIGITS)
    dropped = sorted(piece for piece, score in characters.items() if score in levels)
    scores.update(zip(dropped, sorted(scores[piece] for piece in dropped), strict=True))
    ordered = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
    content["model"]["vocab"] = [*pieces[: len(SPECIAL)], *ordered]
    return Tokenizer.from_str(json.dumps(content))
