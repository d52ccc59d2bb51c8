"""What the engine reports of models that it downloaded or converted."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Count, Longest, Name, PathText

LONGEST_LICENCE = 100  # characters
Licence = Annotated[str, Longest(LONGEST_LICENCE)]


@dataclass(frozen=True)
class FetchedReport:
    """A model that was downloaded: from where, what of it was taken, and what was left out and why."""

    id: Name
    source: Name
    endpoint: PathText
    revision: Name  # the commit
    folder: PathText
    files: Count
    bytes: Count
    downloaded: Count  # bytes that this command received; the others had been downloaded before
    left_out: dict[Name, Count] = field(default_factory=dict)  # files by reason, see engine.obtaining.choice
    licence: Licence = ""
    existed: bool = False  # it was complete before
