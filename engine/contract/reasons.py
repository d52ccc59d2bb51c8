"""Why rows and records cannot be used: codes, counted by the engine and put into words for the reader.

A reason is a code, or `code:detail` if a name from the file belongs to it: `unknown_role:tool`. The catalogues have the
words, under `reason.<code>`.
"""

from collections.abc import Mapping

from engine.contract.texts import Phrase


def reason_phrase(reason: str) -> Phrase:
    """A reason in words; a reason from another version is shown as it is."""
    code, _, detail = reason.partition(":")
    return Phrase(f"reason.{code}", {"detail": detail.strip() or "-"}, fallback=reason)


def counted(counts: Mapping[str, int]) -> tuple[Phrase, ...]:
    """Reasons with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(Phrase.of("list.counted", what=reason_phrase(reason), count=count) for reason, count in ordered)
