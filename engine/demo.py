"""Demo: `python -m engine.demo DATA_DIR TOKENIZER_DIR` makes Parquet files and a tokenizer from chatterbot-corpus."""

import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from engine.contract.messages import InputError

LANGUAGES = ("chinese", "english")
VALIDATION_SHARE = 10  # one row in so many
VOCABULARY = 4000
LONGEST = 200  # characters
SPECIAL = ("[PAD]", "[EOS]", "[UNK]")


def pairs() -> list[tuple[str, str]]:
    """Prompts and responses of the corpus in a fixed shuffled order; raises InputError.

    About 2,900 pairs, of which those that repeat another and the long program listings are left out.
    """
    try:
        import chatterbot_corpus
        import yaml
    except ImportError as error:
        raise InputError("demo_missing", package=str(error.name)) from None
    root = Path(chatterbot_corpus.__file__).parent / "data"
    found: dict[tuple[str, str], None] = {}
    for language in LANGUAGES:
        for path in sorted((root / language).glob("*.yml")):
            with path.open(encoding="utf-8") as file:
                found.update(dict.fromkeys(_pairs_of(yaml.safe_load(file)["conversations"])))
    ordered = list(found)
    random.Random(0).shuffle(ordered)
    return ordered


def _pairs_of(conversations: list[list[str] | str]) -> Iterator[tuple[str, str]]:
    for turns in conversations:
        if isinstance(turns, str):  # one entry of the corpus is a sentence by itself
            continue
        for prompt, response in itertools.pairwise(turns):
            if max(len(str(prompt)), len(str(response))) <= LONGEST:
                yield str(prompt).strip(), str(response).strip()


def write_data(folder: Path, rows: list[tuple[str, str]]) -> None:
    """Writes train.parquet and valid.parquet; no prompt stands in both."""
    prompts = list(dict.fromkeys(prompt for prompt, _ in rows))
    held_out = set(prompts[::VALIDATION_SHARE])
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in (("train", False), ("valid", True)):
        chosen = [row for row in rows if (row[0] in held_out) == wanted]
        table = pa.table({"prompt": [row[0] for row in chosen], "response": [row[1] for row in chosen]})
        pq.write_table(table, folder / f"{name}.parquet", write_page_checksum=True)


def write_tokenizer(folder: Path, texts: list[str]) -> None:
    """Trains a Unigram tokenizer that ends every text with its end token; no space is put before Chinese."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), unk_token=SPECIAL[2], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[(SPECIAL[1], 1)])
    names = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def main(data: Path, tokenizer: Path) -> int:
    """Makes both; 2, and the error as JSON on standard output, where the corpus is not installed."""
    try:
        rows = pairs()
    except InputError as error:
        json.dump({"code": error.message.code, "args": dict(error.message.args)}, sys.stdout)
        return error.exit_code
    write_data(data, rows)
    write_tokenizer(tokenizer, [text for row in rows for text in row])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
