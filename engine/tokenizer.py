"""The tokenizer, loaded and checked; needs transformers, but no torch."""

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.contract.messages import InputError
from engine.foreign import reading_foreign


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
