"""The tokenizer: loaded and checked, or trained on the user's rows; needs transformers, but not torch."""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.config import RunConfig
from engine.contract.durable import read_json, write_json
from engine.contract.facts import LONGEST_NAME, MOST_NAMED, TokenizerFacts
from engine.contract.files import staged as staged_at
from engine.contract.inputs import T5_FAMILIES, has_tokenizer, model_folder, tokenizer_folder
from engine.contract.messages import InputError, Value
from engine.contract.texts import Phrase
from engine.contract.untrusted import one_line, reading_untrusted
from engine.data import spiece
from engine.data.bounded import done_in_time
from engine.data.growth import EXPANSION_LIMIT, longest_expansion

T5_CLASSES = ("T5Tokenizer", "MT5Tokenizer")
PLAIN_CLASSES = ("", "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")  # do not indicate a family
ROLES = ("pad", "eos", "unk", "bos", "cls", "sep", "mask")
# Candidates for a missing special token: tokens that most vocabularies have anyway. Those that end a turn come before
# those that end a text, which chat models have too.
LIKELY = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<unk>", "[UNK]"),
    "eos": (
        "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "</s>", "[EOS]", "<eos>", "[SEP]",
        "<|endoftext|>", "<sep>",
    ),
}  # fmt: skip
RESERVED = re.compile(r"\[unused\d+\]|<unused_?\d+>|<extra_id_\d+>|madeupword\d+|<reserved_\d+>")
COMMON = "a你1é。"  # characters that occur in rows everywhere
MOST_ADDED = 1 << 16  # tokens beyond the pieces of a vocabulary
SPECIAL = ("[PAD]", "[EOS]", "[UNK]")
SCORE_DIGITS = 9  # beyond these digits the trainer's sums vary from run to run
DROPPED_STEP = 1e-4


def load_tokenizer(path: str, needed: Sequence[str] = ("pad", "eos")) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder `path`; raises InputError, also if it lacks one of the tokens `needed` (pad, eos)."""
    with reading_untrusted("tokenizer_bad", path):
        tokenizer = _loaded(Path(path))
        _require_bounded_output(path, tokenizer)
    for name in needed:
        if getattr(tokenizer, f"{name}_token_id") is None:
            raise InputError("tokenizer_token_missing", path=path, token=name, likely=_likely(name, tokenizer))
    return tokenizer


def _likely(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that a missing one most likely is: of the end, one that the chat template writes; empty if none is."""
    known = tokenizer.get_vocab()
    candidates = [token for token in LIKELY[name] if token in known]
    written = str(tokenizer.chat_template or "") if name == "eos" else ""
    return next((token for token in candidates if token in written), next(iter(candidates), ""))


def _loaded(folder: Path) -> PreTrainedTokenizerBase:
    if not has_tokenizer(str(folder)):
        raise InputError("tokenizer_bad", path=str(folder), why=Phrase("why.no_tokenizer_files"))
    settings = read_json(folder / "tokenizer_config.json")
    kind = str(settings.get("tokenizer_class") or read_json(folder / "config.json").get("tokenizer_class") or "")
    family = read_json(folder / "config.json").get("model_type", "t5")
    pieces = spiece.spiece_file(folder)
    ours = kind.removesuffix("Fast") in T5_CLASSES or (kind in PLAIN_CLASSES and family in T5_FAMILIES)
    if ours and (folder / "tokenizer.json").is_file():
        return _from_tokenizer_json(folder)
    if ours and pieces is not None:
        return _from_spiece(pieces, settings, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _keep_unknown(tokenizer)
    return tokenizer


def _from_tokenizer_json(folder: Path) -> PreTrainedTokenizerBase:
    """A T5's tokenizer.json unchanged: transformers' T5 class substitutes another unknown id and another normalizer.

    Special tokens not named by any setting are T5's own, if the file has them.
    """
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    known = tokenizer.get_vocab()
    for name, token in {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}.items():
        if getattr(tokenizer, f"{name}_token_id") is None and token in known:
            setattr(tokenizer, f"{name}_token", token)
    return tokenizer


def _from_spiece(file: Path, settings: dict[str, Any], folder: Path) -> PreTrainedTokenizerBase:
    """A T5's spiece.model with the tokens added by its settings."""
    backend, special = spiece.read_spiece(file)
    own_unknown = special.get("unk")
    named = {**read_json(folder / "special_tokens_map.json"), **settings}
    special |= {name: text for name in spiece.SPECIAL if (text := _content(named.get(f"{name}_token")))}
    if own_unknown is not None:  # what the pieces produce for an unknown character, whatever the settings call it
        special["unk"] = own_unknown
    size = backend.get_vocab_size()
    added = {number: token for number, token in _added(settings, folder).items() if number >= size}
    sentinels = int(settings.get("extra_ids", 100 if settings else 0))
    if sentinels and not added and "<extra_id_0>" not in backend.get_vocab():
        added = {size + place: f"<extra_id_{sentinels - 1 - place}>" for place in range(sentinels)}
    if added and max(added) > size + MOST_ADDED:
        why = Phrase.of("why.token_ids_added", most=max(added), size=size)
        raise InputError("tokenizer_bad", path=str(folder), why=why)
    for number in range(size, max(added, default=size - 1) + 1):
        backend.add_special_tokens([AddedToken(added.get(number, f"<reserved_{number}>"), normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=str(folder),
        **{f"{name}_token": token for name, token in special.items()},
    )
    if tokenizer.eos_token is not None:
        end = [(tokenizer.eos_token, tokenizer.eos_token_id)]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", tokenizer.eos_token], special_tokens=end
        )
    return tokenizer


def _content(token: Any) -> str:
    """The text of a special token, which settings give as plain text or as an object with its matching rules."""
    return str(token.get("content", "")) if isinstance(token, dict) else token if isinstance(token, str) else ""


def _added(settings: dict[str, Any], folder: Path) -> dict[int, str]:
    """Tokens added to a vocabulary, by id, as written by transformers 4 or by earlier versions."""
    listed = settings.get("added_tokens_decoder")
    now = {int(number): _content(token) for number, token in listed.items()} if isinstance(listed, dict) else {}
    before = {int(number): token for token, number in read_json(folder / "added_tokens.json").items()}
    return {**before, **now}


def _keep_unknown(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes a unigram produce the unknown token for unknown text: transformers' classes have fixed ids for it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, models.Unigram) or tokenizer.unk_token_id is None:
        return
    content = json.loads(backend.to_str())
    if content["model"]["unk_id"] != tokenizer.unk_token_id:
        content["model"]["unk_id"] = tokenizer.unk_token_id
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))


def _require_bounded_output(path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises InputError if the tokenizer makes masses of text or tokens from a single character, or never finishes."""
    made, character = done_in_time(lambda: _most_from_one_character(tokenizer), path, len(COMMON))
    if made > EXPANSION_LIMIT:
        why = Phrase.of(f"why.token_grows_{'from' if character else 'any'}", made=made, character=character)
        raise InputError("tokenizer_bad", path=path, why=why)


def _most_from_one_character(tokenizer: PreTrainedTokenizerBase) -> tuple[int, str]:
    """The most characters that its rules make from one, or tokens from one such character, and that character if known.

    The tokenizer is called as it will be in use, since some settings fail only then.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    made = longest_expansion(backend.normalizer) if backend is not None else 0
    if made > EXPANSION_LIMIT:
        return made, ""
    encoded = tokenizer([*COMMON], add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
    return max(zip(map(len, encoded), COMMON, strict=True))


def tokens_needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many embedding rows the tokenizer can require: its highest id plus one."""
    used = tokenizer(["a"], add_special_tokens=True, truncation=False, verbose=False)["input_ids"][0]
    return max((*tokenizer.get_vocab().values(), *used), default=0) + 1


def facts_of(tokenizer: PreTrainedTokenizerBase) -> TokenizerFacts:
    """The facts about a tokenizer that was loaded."""
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos", "unk")}
    numbers = tokenizer.all_special_ids[:MOST_NAMED]
    named = {str(number): str(tokenizer.convert_ids_to_tokens(number))[:LONGEST_NAME] for number in numbers}
    return TokenizerFacts(tokens_needed(tokenizer), named=named, **special)


def require_own_vocabulary(tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> None:
    """Raises InputError if the tokenizer numbers tokens differently from the one in the model's folder.

    Tokens that one of the two has beyond the other's end, and ids that were reserved for such tokens, may differ; so
    may the names of special tokens with the same purpose.
    """
    theirs, ours = model_folder(config), tokenizer_folder(config)
    if not has_tokenizer(theirs) or Path(theirs).resolve() == Path(ours).resolve():
        return
    try:
        other = load_tokenizer(theirs, ())
    except InputError:  # it proves nothing; the tokenizer that was set may be its replacement
        return
    same = {getattr(other, f"{name}_token_id"): getattr(tokenizer, f"{name}_token_id") for name in ROLES}
    here = {number: token for token, number in tokenizer.get_vocab().items()}
    there = {number: token for token, number in other.get_vocab().items()}
    wrong = sorted(
        number
        for number in here.keys() & there.keys()
        if here[number] != there[number] and not RESERVED.fullmatch(there[number]) and same.get(number) != number
    )
    if wrong:
        number, shared = wrong[0], len(here.keys() & there.keys())
        first: dict[str, Value] = {"number": number, "token": here[number], "other": there[number]}
        raise InputError("tokenizer_differs", tokenizer=ours, model=theirs, count=len(wrong), shared=shared, **first)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the tokenizer for transformers 4 and 5, which both know PreTrainedTokenizerFast; raises OSError."""
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # tokenizers raises its own type if it cannot write
        raise OSError(one_line(error)) from None
    path = folder / "tokenizer_config.json"
    settings = read_json(path)
    if settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        for name in ("backend", "is_local", "local_files_only"):  # how it was loaded here
            settings.pop(name, None)
        if isinstance(extra := settings.pop("extra_special_tokens", None), list) and extra:
            settings["additional_special_tokens"] = extra  # a list under that name is an error to transformers 4
        write_json(path, settings, durable=False)


def train_tokenizer(folder: Path, texts: Iterable[str], vocabulary: int) -> int:
    """Trains a Unigram tokenizer (at most `vocabulary` tokens) that ends every text with its end token; its size.

    No space is put before Chinese. Few texts yield fewer tokens; the same texts yield the same tokenizer. Raises
    InputError if the folder is in use or the vocabulary has too few tokens for all characters.
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
    except Exception as error:  # the only type that tokenizers raises
        if "not large enough" not in str(error):
            raise
        raise InputError("vocabulary_small", vocabulary=vocabulary) from None
    tokenizer = _deterministic(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[(SPECIAL[1], 1)])
    names = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    staged = staged_at(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names), staged)
        if folder.exists():
            folder.rmdir()
        staged.rename(folder)
    except OSError as error:
        why = one_line(error)
        raise InputError("folder_unwritable", path=str(folder), why=why, setting="output") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return tokenizer.get_vocab_size()


def _deterministic(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without the parts that its trainer left to the order of a hash table.

    These are the order of pieces with equal scores, and the scores of single characters that training dropped: the
    trainer puts them back at the end, the first with the lowest score, each further one a `DROPPED_STEP` above.
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
