"""What the inspecting process says at first sight of a file of rows, or of a model's folder."""

from dataclasses import dataclass
from typing import Annotated, Literal

from engine.contract.bounds import Count, Longest, Name

Form = Literal["pairs", "messages"]  # of the rows of a file
MOST_COLUMNS = 50  # of a file that are named


@dataclass(frozen=True)
class DataGlance:
    """A file of rows by its first records; `rows` are all its records, estimated unless `counted`.

    `ready` says that a run can train on it as it is, `shape` is that of most records: empty if none has a known one.
    """

    format: Name
    rows: Count
    counted: bool
    ready: bool = False
    form: Form = "pairs"
    shape: Name = ""
    columns: Annotated[tuple[Name, ...], Longest(MOST_COLUMNS)] = ()
    script: Name = ""  # of most letters


@dataclass(frozen=True)
class ModelGlance:
    """A model's folder by its configuration and the headers of its files."""

    title: Name
    family: Name  # model_type
    kind: Name  # as the setting `family` names it
    parameters: Count
    dtype: Name
    bytes: Count  # of its weights
    template: bool  # whether it has a chat template
    tokenizer: bool
