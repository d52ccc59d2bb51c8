"""The `config.py` of the original scripts: never executed and never used as settings, only compared with them."""

import ast
import os
import shlex
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig, check_value, setting_of
from engine.contract.files import read_piece
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from sft_tui.options import FIELD_OF, meant
from sft_tui.text import number

NAME = "config.py"
SHAPE_CLASS = "T5ModelConfig"
LONGEST = 1 << 20  # bytes
MOST_TERMS = 1000  # in one value
LONGEST_TEXT, MOST_BITS = 4096, 1024  # size limits of an evaluated value

Values = dict[str, Any]  # values of names, where they can be found without executing anything


def answer(folders: list[Path], name: str, given: Mapping[str, Any]) -> Message | None:
    """The message about the first `config.py` in the folders; None if none of them holds training settings.

    `name` is the preset in use, `given` are the settings from the command line.
    """
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        source = _source(folder / NAME)
        if "TrainConfig" in source:
            return _compared(folder, source, name, given)
    return None


def _compared(folder: Path, source: str, name: str, given: Mapping[str, Any]) -> Message:
    known, path = preset(name), str(folder / NAME)
    classes = _classes(source, folder)
    if classes is None or known.original not in classes:
        return Message.of("config_file_unread", path=path, preset=name)
    found = {**classes.get(SHAPE_CLASS, {}), **classes[known.original]}
    other = dict(_differences(found, known.config, given))
    if not other:
        return Message.of("config_file_same", path=path, original=known.original, preset=name)
    shown = ", ".join(
        f"{field} = {number(value)} ({number(getattr(known.config, field))})" for field, value in other.items()
    )
    options = " ".join(shlex.quote(f"--{field}={value}") for field, value in other.items())
    return Message.of(
        "config_file_differs", path=path, original=known.original, preset=name, settings=shown, options=options
    )


def _differences(found: Values, config: RunConfig, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a class that differ from the preset, without the settings given on the command line."""
    for spelt, raw in found.items():
        field = FIELD_OF.get(spelt)
        if field is None or field in given:
            continue
        value = meant(field, raw) if isinstance(raw, str) else raw
        try:
            check_value(field, value)
        except InputError:  # a value that the setting cannot have is not one of our settings
            continue
        ours = getattr(config, field)
        if setting_of(field).path:
            if _same_path(value, ours):
                continue
            value = os.path.relpath(value) if Path(value).is_relative_to(Path.cwd()) else value
        if value != ours:
            yield field, value


def _same_path(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other) if one and other else one == other


def _source(path: Path) -> str:
    """The text of a regular file; empty if there is none that can be read."""
    try:
        return read_piece(path.resolve(), 0, LONGEST).decode("utf-8-sig", "replace")
    except (OSError, RuntimeError):  # the latter for a loop of links
        return ""


def _classes(source: str, folder: Path) -> dict[str, Values] | None:
    """The values of every class of a module, inherited ones included; None if it is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names: Values = {"__file__": str(folder / NAME)}
    classes: dict[str, Values] = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            own: Values = {}
            for base in node.bases:
                own |= classes.get(base.id, {}) if isinstance(base, ast.Name) else {}
            for field, value in _assigned(node.body):
                _assign(own, field, value, {**names, **own})
            classes[node.name] = own
        else:
            for field, value in _assigned([node]):
                _assign(names, field, value, names)
                if field == "PROJECT_ROOT":  # the scripts derive it from the path of the file
                    names.setdefault(field, str(folder))
    return classes


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                yield target.id, value


def _assign(values: Values, field: str, node: ast.expr, names: Values) -> None:
    """Sets the field to its value, or removes it if only executing the file could give the value."""
    try:
        values[field] = _value_of(node, names)
    except (_UnknownError, RecursionError, ArithmeticError, TypeError, ValueError):
        values.pop(field, None)


def _value_of(node: ast.expr, names: Values) -> Any:
    if sum(1 for _ in ast.walk(node)) > MOST_TERMS:
        raise _UnknownError
    value = _evaluated(node, names)
    if len(value) > LONGEST_TEXT if isinstance(value, str) else int(value).bit_length() > MOST_BITS:
        raise _UnknownError
    return value


class _UnknownError(Exception):
    """A value that only executing the file could give."""


def _evaluated(node: ast.expr, names: Values) -> Any:
    """A literal value, or one computed from literals: numbers, texts, their sums and products, paths."""
    match node:
        case ast.Constant(value=str() | int() | float() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluated(operand, names)
        case ast.BinOp(left=left, op=op, right=right):
            return _combined(_evaluated(left, names), op, _evaluated(right, names))
        case ast.JoinedStr(values=parts):
            return "".join(str(_evaluated(part, names)) for part in parts)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _evaluated(value, names)
        case ast.Call(func=ast.Name(id="field"), args=[], keywords=[ast.keyword(arg="default", value=value)]):
            return _evaluated(value, names)
        case ast.Call(func=called, args=parts, keywords=[]):
            return _path(ast.unparse(called), [_evaluated(part, names) for part in parts])
    raise _UnknownError


def _path(called: str, parts: list[Any]) -> str:
    """The result of a function of `os.path`, or of `Path`, applied to texts."""
    module, _, function = called.rpartition(".")
    if module not in ("", "os.path", "path", "osp", "pathlib") or not all(isinstance(part, str) for part in parts):
        raise _UnknownError
    match function, parts:
        case (("join" | "Path"), [first, *more]):
            return os.path.join(str(first), *more)
        case (("abspath" | "realpath"), [path]):
            return os.path.abspath(str(path))
        case "dirname", [path]:
            return os.path.dirname(str(path))
    raise _UnknownError


def _combined(left: Any, op: ast.operator, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str) and isinstance(op, ast.Add | ast.Div):
        return left + right if isinstance(op, ast.Add) else os.path.join(left, right)
    if isinstance(left, int | float) and isinstance(right, int | float):
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
    raise _UnknownError
