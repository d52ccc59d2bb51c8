"""What an import from the screen is asked to do: typed values, checked, and where the rows are written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract.messages import InputError
from engine.contract.presets import preset
from sft_tui.preflight.missing import free_names

PARTS = ("train", "valid", "test")
FIELDS = ("sample", "valid_ratio", "test_ratio", "history", *PARTS)
USUAL_SHARES = {"valid_ratio": "0.1", "test_ratio": "0.05"}
MOST_SHARE = 0.9
LONGEST_NUMBER = 9  # digits


class FieldError(InputError):
    """What is wrong with the value of a field."""

    def __init__(self, field: str, code: str, **args: str) -> None:
        super().__init__(code, **args)
        self.field = field


@dataclass(frozen=True)
class ImportPlan:
    """The typed values of an import, and the columns that were chosen for prompt and response."""

    source: str
    typed: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str) -> "ImportPlan":
        """The usual values: a tenth for validation, a twentieth for the test, files that exist under no name yet."""
        return cls(source, {"sample": "", "history": "", **USUAL_SHARES, **_targets(Path(source))})

    def request(self) -> dict[str, Any]:
        """The arguments of the import; raises FieldError."""
        how: dict[str, Any] = {"sample": _number(self.typed, "sample"), **self.columns, **self.preview()}
        for name in USUAL_SHARES:
            how[name] = _share(self.typed, name)
        if how["valid_ratio"] + how["test_ratio"] >= 1:
            raise FieldError("test_ratio", "import_shares")
        for part in PARTS:
            path = os.path.expanduser(self.typed.get(part, "").strip())
            if part == "train" and not path:
                raise FieldError(part, "import_no_target")
            how[part] = path
        if not how["test"] or not how["test_ratio"]:
            how |= {"test": "", "test_ratio": 0.0}
        if not how["valid"] or not how["valid_ratio"]:
            how |= {"valid": "", "valid_ratio": 0.0}
        return how

    def preview(self) -> dict[str, Any]:
        """The arguments that decide what the rows look like; raises FieldError."""
        typed = self.typed.get("history", "").strip().lower()
        if not typed:
            return dict(self.columns)
        history = {"all": None, "none": 0}.get(typed, -1)
        if history == -1:
            history = _number(self.typed, "history")
        return {**self.columns, "history": history, "form": "pairs"}

    def split(self, rows: int) -> dict[str, int]:
        """About how many rows each file gets; raises FieldError."""
        how = self.request()
        rows = min(rows, how["sample"] or rows)
        held = {part: round(rows * how[f"{part}_ratio"]) for part in ("valid", "test")}
        return {"train": rows - sum(held.values()), **held}


def _targets(source: Path) -> dict[str, str]:
    """The files of the chat presets if none of them exists yet, else new ones that are named after the source."""
    usual = preset("chat").config
    train, valid = Path(usual.train_file), Path(usual.validation_file)
    names = {"train": str(train), "valid": str(valid), "test": str(train.with_name("chat_test.parquet"))}
    return free_names(source, PARTS) if any(map(os.path.lexists, names.values())) else names


def _number(typed: Mapping[str, str], name: str) -> int:
    text = typed.get(name, "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise FieldError(name, f"import_bad_{name}", value=text)
    return int(text)


def _share(typed: Mapping[str, str], name: str) -> float:
    """A share as a fraction or in percent."""
    text = typed.get(name, "").strip() or "0"
    try:
        value = float(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_SHARE:
        raise FieldError(name, "import_bad_share", value=text, most=f"{MOST_SHARE:g}")
    return value
