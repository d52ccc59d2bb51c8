"""transformers' own model from a folder or from given weights, and the check that these fit."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.contract.untrusted import reading_untrusted
from engine.models.misfit import misfit, require_fit


def loaded(auto: Any, path: Path, wrapper: str = "", dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    """transformers' model from a folder by one of its `Auto…` classes; raises InputError.

    `wrapper` is removed from its weights' names.
    """
    renamed = {"key_mapping": {f"^{re.escape(wrapper)}": ""}} if wrapper else {}
    with reading_untrusted("model_bad", path), warnings.catch_warnings(action="ignore"):  # reported in our own words
        model, info = auto.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,  # the default asks on standard input, and a "y" there would run the folder's code
            ignore_mismatched_sizes=True,  # reported in our own words
            output_loading_info=True,
            **renamed,
            **more,
        )
    missing, unexpected, mismatched = info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"]
    if missing or unexpected or mismatched:
        raise misfit(path, missing, unexpected, [key[0] if isinstance(key, tuple) else key for key in mismatched])
    return model


def with_weights(
    kind: Any, parsed: Any, state: dict[str, Tensor], path: Path, dtype: torch.dtype = torch.float32
) -> Any:
    """A model of class `kind` with the weights `state`; raises InputError if they do not fit."""
    _check_fit(kind, parsed, state, path)
    with reading_untrusted("model_bad", path):
        return kind.from_pretrained(None, config=parsed, state_dict=dict(state), dtype=dtype)


def _check_fit(kind: Any, parsed: Any, state: dict[str, Tensor], path: Path) -> None:
    """Compares names and shapes with those of an empty model; names of one shared weight are equivalent."""
    with reading_untrusted("model_bad", path), torch.device("meta"):
        wanted = kind(parsed).state_dict(keep_vars=True)
    groups: dict[int, list[str]] = {}
    for name in sorted(wanted):
        groups.setdefault(id(wanted[name]), []).append(name)
    shapes, found = ({name: tensor.shape for name, tensor in some.items()} for some in (wanted, state))
    require_fit(path, shapes, groups.values(), found)
