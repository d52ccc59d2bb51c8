"""What a value read from a file or another process may be: its type, range and size, declared at its field.

Anybody can have written the files that events, records and snapshots come from. `read_as` makes an instance of a
dataclass from plain JSON and raises if a value does not fit its field, so callers need not check again; `as_json` is
its counterpart.
"""

import contextlib
import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.contract.messages import InputError, Message
from engine.contract.texts import Argument, Phrase

EXACT = 2**53  # whole numbers up to here survive any JSON reader, and any sum with fractions
WIDEST = 2**63
MOST_ATTEMPTS = 10**6  # of a run
LARGEST = 1e60  # of a loss or a norm
MOST_ITEMS = 1 << 16  # entries of a list or an object, and characters of a text, if their field declares no `Longest`
DEEPEST = 4  # phrases within phrases, in the arguments of a message
NON_FINITE = ("NaN", "Infinity", "-Infinity")  # how they are written, since JSON has no numbers for them

Made = TypeVar("Made")
Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`; with `non_finite`, NaN and the infinities too."""

    low: float
    high: float
    non_finite: bool = False

    def __call__(self, value: float) -> None:
        """Raises ValueError for any other number."""
        if not self.low <= value <= self.high and not (self.non_finite and not math.isfinite(value)):
            raise ValueError("out of range")


@dataclass(frozen=True)
class Longest:
    """Texts, lists and objects of at most this many characters or entries."""

    most: int

    def __call__(self, value: Sized) -> None:
        """Raises ValueError for a longer one."""
        if len(value) > self.most:
            raise ValueError("too long")


# Marks the field with the values that this version does not know, of a file that it reads, changes and writes again.
REST = {"rest": True}


def _without_nul(value: str) -> None:
    """Raises ValueError if no file can have this name."""
    if "\0" in value:
        raise ValueError("no path")


PathText = Annotated[str, _without_nul]
Count = Annotated[int, Between(0, EXACT)]  # of things, steps, tokens, bytes
Number64 = Annotated[int, Between(0, 2**64)]  # of a file, as reported by the system
Attempt = Annotated[int, Between(0, MOST_ATTEMPTS)]
Positive = Annotated[int, Between(1, EXACT)]  # divisors
Seconds = Annotated[float, Between(0, 1e12)]
Real = Annotated[float, Between(-LARGEST, LARGEST, non_finite=True)]  # losses and norms: what fp32 holds, squared
Score = Annotated[float, Between(0, 100.01, non_finite=True)]  # BLEU, whose 100 is rounded up; NaN if not computed
Rate = Annotated[float, Between(0, 1e6)]  # learning rates, percentages of many processors
Name = Annotated[str, Longest(200)]


def read_as(kind: type[Made], values: Any) -> Made:
    """An instance of the dataclass from a JSON object; raises TypeError or ValueError if a value does not fit.

    Fields that the dataclass lacks are ignored, or kept in the field marked `REST`; fields that the object lacks
    get their defaults.
    """
    hint: Any = kind
    made: Made = reader(hint)(values)
    return made


def read_error(value: Any) -> InputError:
    """The error that another process reported, as `as_json` wrote its message; raises as `read_as` does."""
    message: Message = _message(value)
    return InputError(message.code, **message.args)


def as_json(value: Any) -> Any:
    """A dataclass, or any value of its fields, as plain JSON that `read_as` reads; floats are left unchanged."""
    if isinstance(value, Message):
        return {"code": value.code, "args": as_json(value.args), "text": value.text()}
    if isinstance(value, Phrase):
        return {"key": value.key, "args": as_json(value.args), "text": value.text()}
    if dataclasses.is_dataclass(value):
        named, rest = {}, {}
        for field in dataclasses.fields(value):
            if field.metadata == REST:
                rest = getattr(value, field.name)
            else:
                named[field.name] = as_json(getattr(value, field.name))
        return {**named, **rest}
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


@cache
def reader(hint: Any, most: int = MOST_ITEMS) -> Reader:
    """A function that makes a `hint` value from a JSON value, or raises TypeError, ValueError or OverflowError.

    A text, list or object may have at most `most` characters or entries, or what its `Longest` says; of a union, the
    first kind that fits is read.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        longest = [check.most for check in inner[1:] if isinstance(check, Longest)]
        return _checked(reader(inner[0], max(longest, default=most)), inner[1:])
    if origin in (Union, types.UnionType):
        return _either([reader(one) for one in inner if one is not types.NoneType], types.NoneType in inner)
    if origin is Literal:
        return _one_of(inner)
    if origin in (list, tuple):
        return _sequence(origin, reader(inner[0]), Longest(most))
    if origin is dict:
        return _mapping(reader(inner[0]), reader(inner[1]), Longest(most))
    if hint is str:
        return _text_of(Longest(most))
    if hint in _PLAIN:
        return _PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        return _instance(hint)
    return _of_type(hint)


def _checked(read: Reader, checks: tuple[Callable[[Any], None], ...]) -> Reader:
    def read_checked(value: Any) -> Any:
        found = read(value)
        for check in checks:
            check(found)
        return found

    return read_checked


def _either(readers: list[Reader], optional: bool) -> Reader:
    *others, last = readers

    def read_either(value: Any) -> Any:
        if value is None and optional:
            return None
        for read in others:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return read(value)
        return last(value)

    return read_either


def _one_of(known: tuple[Any, ...]) -> Reader:
    def read_one(value: Any) -> Any:
        if value not in known:
            raise ValueError("not one of those known")
        return value

    return read_one


def _sequence(kind: Any, read: Reader, bound: Longest) -> Reader:
    def read_sequence(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError("not a list")
        bound(value)
        return kind(map(read, value))

    return read_sequence


def _mapping(read_key: Reader, read: Reader, bound: Longest) -> Reader:
    def read_mapping(value: Any) -> dict[str, Any]:
        return {read_key(key): read(item) for key, item in _object(value, bound).items()}

    return read_mapping


def _instance(kind: Any) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    readers = {field.name: reader(hints[field.name]) for field in fields if field.metadata != REST}
    needed = {field.name for field in fields if _is_required(field)}
    rest = next((field.name for field in fields if field.metadata == REST), None)

    def read_instance(value: Any) -> Any:
        given = _object(value)
        if not needed <= given.keys():
            raise TypeError(f"no {', '.join(sorted(needed - given.keys()))}")
        made = {name: _named(name, read, given[name]) for name, read in readers.items() if name in given}
        if rest is not None:
            made[rest] = {name: given[name] for name in given if name not in readers}
        return kind(**made)

    return read_instance


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _named(name: str, read: Reader, value: Any) -> Any:
    """The value of a field; an error says which field it is."""
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"{name}: {error}") from None


def _of_type(kind: Any) -> Reader:
    def read_type(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"not {kind.__name__}")
        return value

    return read_type


_bounded = Longest(MOST_ITEMS)


def _object(value: Any, bound: Longest = _bounded) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    bound(value)
    return value


def _text_of(bound: Longest) -> Reader:
    def read_text(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError("not a text")
        bound(value)
        return value

    return read_text


_text = _text_of(_bounded)


def _number(value: Any) -> float:
    if isinstance(value, str) and value not in NON_FINITE:
        raise ValueError("not a number")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not a number")
    return float(value)


def _message(value: Any) -> Message:
    given = _object(value)
    args = {_text(name): _argument(one) for name, one in _object(given.get("args")).items()}
    return Message(_text(given.get("code")), args, _text(given.get("text", "")))


def _argument(value: Any, depth: int = DEEPEST) -> Argument:
    if isinstance(value, dict) and depth:
        args = {_text(name): _argument(one, depth - 1) for name, one in _object(value.get("args")).items()}
        return Phrase(_text(value.get("key")), args, _text(value.get("text", "")))
    if isinstance(value, list) and depth:
        _bounded(value)
        return tuple(_item(_argument(one, depth - 1)) for one in value)
    if not isinstance(value, str | int | float):
        raise TypeError("not an argument")
    argument: str | int | float = plain(value)
    return argument


def _item(value: Argument) -> str | Phrase:
    if not isinstance(value, str | Phrase):
        raise TypeError("not an item of a list")
    return value


def plain(value: Any) -> Any:
    """Any JSON value whose whole numbers fit 64 bits; raises ValueError for any other."""
    if isinstance(value, dict):
        return {_text(key): plain(item) for key, item in _object(value).items()}
    if isinstance(value, list):
        _bounded(value)
        return [plain(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not -WIDEST <= value < WIDEST:
        raise ValueError("out of range")
    return value


_PLAIN: dict[Any, Reader] = {Any: plain, float: _number, Message: _message}
