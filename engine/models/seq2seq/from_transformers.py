"""transformers' own model from a folder or from given weights, and the check that these fit."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
)

from engine.contract.untrusted import reading_untrusted
from engine.models.misfit import misfit


def loaded(path: Path, wrapper: str = "", **more: Any) -> Any:
    """transformers' model from a folder, with `wrapper` removed from its weights' names; raises InputError."""
    renamed = {"key_mapping": {f"^{re.escape(wrapper)}": ""}} if wrapper else {}
    with reading_untrusted("model_bad", path), warnings.catch_warnings(action="ignore"):  # reported in our own words
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            path,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,  # the default asks on standard input, and a "y" there would run the folder's code
            ignore_mismatched_sizes=True,  # reported in our own words
            output_loading_info=True,
            **renamed,
            **more,
        )
    _check_keys(path, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model


def with_weights(kind: Any, parsed: Any, state: dict[str, Tensor], path: Path) -> Any:
    """A model of class `kind` with the weights `state`; raises InputError if they do not fit."""
    _check_fit(kind, parsed, state, path)
    with reading_untrusted("model_bad", path):
        return kind.from_pretrained(None, config=parsed, state_dict=dict(state), dtype=torch.float32)


def _check_fit(kind: Any, parsed: Any, state: dict[str, Tensor], path: Path) -> None:
    """Compares names and shapes with those of an empty model; names of one shared weight are equivalent."""
    with reading_untrusted("model_bad", path), torch.device("meta"):
        wanted = kind(parsed).state_dict(keep_vars=True)
    groups: dict[int, set[str]] = {}
    for name, tensor in wanted.items():
        groups.setdefault(id(tensor), set()).add(name)
    missing = [min(names) for names in groups.values() if not names & state.keys()]
    unexpected = [name for name in state if name not in wanted]
    mismatched = [name for name in state if name in wanted and state[name].shape != wanted[name].shape]
    _check_keys(path, missing, unexpected, mismatched)


def _check_keys(path: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[Any]) -> None:
    groups = (list(missing), list(unexpected), [str(m[0] if isinstance(m, tuple) else m) for m in mismatched])
    if any(groups):
        raise misfit(path, *groups, {})
