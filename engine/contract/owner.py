"""The run that the contents of an output folder belong to: its id, and the file that names it."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any

from engine.contract.bounds import REST, Count, PathText
from engine.contract.config import require_kinds


def _id_of_a_run(value: str) -> None:
    """Raises ValueError if it is not an id as made by `new_id`."""
    if value and not re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError("no id of a run")


Id = Annotated[str, _id_of_a_run]


def new_id() -> str:
    """A unique id for a run."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Owner:
    """The content of an output folder's owner file, by which other files are found and numbers compared."""

    run: str = ""
    id: Id = ""  # older ones have none
    run_dir: PathText = ""  # absolute, as is the next
    output_dir: PathText = ""  # where the run wrote; older ones do not say
    steps_total: Count = 0
    config: Annotated[dict[str, Any], require_kinds] = field(default_factory=dict)
    finished: bool = False
    best: list[str] = field(default_factory=list)  # names of the files that the run wrote into `best/`
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def known(self) -> bool:
        """Whether an owner file says anything."""
        return self != Owner()

    def is_run(self, run: str, id: str) -> bool:
        """Whether this is a run; if it predates ids, the run of that name."""
        return self.id == id if self.id else bool(run) and self.run == run
