"""Whether a model and a tokenizer belong together."""

from collections.abc import Iterator

from engine.contract.facts import SpecialTokens, TokenizerFacts
from engine.contract.messages import Message


def faults(
    model: str, rows: int, special: SpecialTokens | None, tokenizer: str, facts: TokenizerFacts
) -> Iterator[Message]:
    """What is wrong with these two, named `model` and `tokenizer`; 0 `rows` fit any tokenizer."""
    if rows and facts.tokens > rows:
        yield Message.of("vocabulary_mismatch", tokenizer=tokenizer, tokens=facts.tokens, model=model, rows=rows)
    elif special is not None:
        yield from _special_token_faults(model, rows, special, tokenizer, facts)


def _special_token_faults(
    model: str, rows: int, special: SpecialTokens, tokenizer: str, facts: TokenizerFacts
) -> Iterator[Message]:
    if "eos" in special.needed and facts.eos not in special.eos:
        shown = ", ".join(map(str, special.eos)) or "-"
        likely = facts.named.get(shown, "")
        ids = {"model_id": shown, "tokenizer_id": str(facts.eos), "token": "eos", "likely": likely}
        yield Message.of("special_token_mismatch", model=model, tokenizer=tokenizer, **ids)
    for token in special.needed:
        if token == "eos":
            continue
        number = special.pad if token == "pad" else special.decoder_start
        if number is None and token == "decoder_start":
            yield Message.of("decoder_start_missing", model=model)
        elif not isinstance(number, int) or not 0 <= number < rows:
            yield Message.of("special_token_bad", model=model, token=token, number=str(number), rows=rows)
