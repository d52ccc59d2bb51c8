"""Facts of the inspecting process, made for tests that need only some of them."""

from typing import Any

from engine.contract.facts import (
    Batch,
    FileFacts,
    Histogram,
    LengthFacts,
    SomeRows,
    StepFacts,
    StoreFacts,
    TokenFacts,
)

LENGTHS = LengthFacts(9, 60, 64, Histogram((0.0, 32.0, 64.0), (5, 4)))


def token_facts(**more: Any) -> TokenFacts:
    """Nine short rows as tokens, but for what is named."""
    counts = {"limit": 64, "tokens": 900, "label_tokens": 90, "unknown_tokens": 0, "cut_rows": 0, "cut_tokens": 0}
    turns = {"cut_label_tokens": 0, "turns_rows": 0, "turns_left_out": 0, "turns_longest": 0}
    parts = {"prompt": LENGTHS, "label": LENGTHS, "unanswered": SomeRows(), "repeated": SomeRows()}
    return TokenFacts(**{**counts, **turns, **parts, "store": StoreFacts(1000, kept=True), **more})


def file_facts(**more: Any) -> FileFacts:
    """A file of nine Chinese rows, whose facts as tokens may be named."""
    return FileFacts(9, scripts={"Han": 1.0}, tokens=token_facts(**more))


def step_facts(**more: Any) -> StepFacts:
    """The steps of a small run, but for what is named."""
    usual = {"rows": 9, "per_epoch": 1, "total": 1, "label_tokens": 90, "prompt_tokens": 90}
    return StepFacts(**{**usual, "largest": (), "packed": (), "generation": Batch(8, 9, 9), **more})
