"""A line holds one event, whatever is in it, and reading a line never fails on what is in it."""

import dataclasses
import json
import math
import string
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NoReturn, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.bounds import MOST_ITEMS, NON_FINITE, WIDEST, Between
from engine.contract.events import EVENT_TYPES, MAX_LINE_BYTES, SCHEMA, Envelope, Event, Record, decode, encode
from engine.contract.messages import Message
from engine.contract.texts import Phrase
from tests.catalogues import MESSAGES

KINDS = sorted(EVENT_TYPES)
ENVELOPE = Envelope("2026-02-03T04:05:06.789+08:00", 12.5, 2, "rank0", 7)
ON_THE_WIRE = {"v": SCHEMA, **dataclasses.asdict(ENVELOPE)}


def joined(text: str) -> str:
    """`text` with halves of a character that stand side by side made one, as JSON cannot tell them apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


# Lone surrogates included: they come from file names and from rows cut in the middle of a character.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.text(st.sampled_from('中文，。😀👩‍👩‍👧\ud83d\udc00\x00\x1b[31m\x7f\x9b\u2028\u2029\u202e"\\\n\r\t\ufeff')),
).map(joined)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-WIDEST, WIDEST - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
ARGS = st.dictionaries(
    TEXT,
    st.one_of(TEXT, st.integers(-WIDEST, WIDEST - 1), st.floats(allow_nan=False, allow_infinity=False)),
    max_size=4,
)


def known_message(code: str, args: dict[str, Any]) -> Message:
    """A message of the catalogue; it says of itself what a reader who does not know it is to show."""
    names = {name for template in MESSAGES[code] for _, name, _, _ in string.Formatter().parse(template) if name}
    complete = dict.fromkeys(sorted(names), "x") | args
    return Message(code, complete, Message(code, complete).text())


MESSAGE = st.one_of(
    st.builds(Message, TEXT.filter(lambda code: code not in MESSAGES), ARGS, TEXT.filter(bool)),
    st.builds(known_message, st.sampled_from(sorted(MESSAGES)), ARGS),
)
OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    Any: JSON,
    Message: MESSAGE,
}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field."""
    if hint in OF_TYPE:
        return OF_TYPE[hint]
    if get_origin(hint) is Annotated:
        plain, check = get_args(hint)
        return numbers(plain, check) if isinstance(check, Between) else of_type(plain).filter(passes(check))
    inner = [of_type(argument) for argument in get_args(hint)]
    if get_origin(hint) is list:
        return st.lists(*inner, max_size=5)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        of_fields = get_type_hints(hint, include_extras=True).items()
        return st.builds(hint, **{name: of_type(field) for name, field in of_fields})
    assert get_origin(hint) is dict, f"no values of {hint} are tested"
    return st.dictionaries(*inner, max_size=4)


def numbers(kind: Any, allowed: Between) -> st.SearchStrategy[Any]:
    """Any number that a field may hold."""
    if kind is int:
        return st.integers(int(allowed.low), int(allowed.high))
    finite = st.floats(allowed.low, allowed.high)
    return st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf])) if allowed.non_finite else finite


def passes(check: Callable[[Any], None]) -> Callable[[Any], bool]:
    """Whether a value is let through."""

    def is_let_through(value: Any) -> bool:
        try:
            check(value)
        except ValueError:
            return False
        return True

    return is_let_through


def hints(event_type: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass and their types, with the bounds that are declared for them."""
    resolved = get_type_hints(event_type, include_extras=True)
    return {field.name: resolved[field.name] for field in dataclasses.fields(event_type)}


def bare(hint: Any) -> Any:
    """A type without its bounds."""
    if get_origin(hint) is Annotated:
        return bare(get_args(hint)[0])
    return list[bare(get_args(hint)[0])] if get_origin(hint) is list else hint  # type: ignore[misc]


def any_event(kind: str) -> st.SearchStrategy[Event]:
    """Any event of a kind."""
    event_type = EVENT_TYPES[kind]
    return st.builds(event_type, **{name: of_type(hint) for name, hint in hints(event_type).items()})


def any_envelope() -> st.SearchStrategy[Envelope]:
    """Any envelope."""
    return st.builds(Envelope, **{name: of_type(hint) for name, hint in hints(Envelope).items()})


def no_constant(token: str) -> NoReturn:
    """Strict parsers know neither NaN nor Infinity."""
    raise AssertionError(f"{token} is not JSON")


def check_line(line: bytes) -> dict[str, Any]:
    """The object that a line holds, after what every line must be was looked at."""
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x80 for byte in line[:-1])
    assert len(line) <= MAX_LINE_BYTES
    body = json.loads(line, parse_constant=no_constant)
    assert isinstance(body, dict)
    return body


def wire(kind: str, **fields: Any) -> bytes:
    """A line that this version did not write."""
    return json.dumps({**ON_THE_WIRE, "kind": kind, **fields}).encode() + b"\n"


def read(line: bytes) -> Event:
    """The event of a line that holds one."""
    record = decode(line)
    assert record is not None
    return record.event


def simple(hint: Any) -> Any:
    """The plainest value of a type."""
    if hint is Message:
        return {"code": "head_frozen", "args": {}, "text": ""}
    if get_origin(hint) is Annotated and isinstance(get_args(hint)[1], Between):
        return bare(hint)(max(0, get_args(hint)[1].low))
    return (get_origin(bare(hint)) or bare(hint))()


def simple_fields(kind: str) -> dict[str, Any]:
    """The plainest fields of a kind, as they stand in a line."""
    return {name: simple(hint) for name, hint in hints(EVENT_TYPES[kind]).items()}


# --- round trip


def test_event_kinds_are_unique() -> None:
    declared = [one for one in Event.__subclasses__() if one.kind and one.__module__ == events.__name__]

    assert {one.kind: one for one in declared} == EVENT_TYPES
    assert len(EVENT_TYPES) == len(declared) > 0


def test_a_class_is_all_that_a_new_kind_of_event_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENT_TYPES, "aurora", Event)  # removed after the test

    @dataclasses.dataclass(frozen=True)
    class Aurora(Event):
        kind: ClassVar[str] = "aurora"
        hue: str
        counts: tuple[int, ...] = ()

    record = Record(ENVELOPE, Aurora("green", (1, 2)))

    assert decode(encode(record)) == record


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_field_hides_an_envelope_field(kind: str) -> None:
    assert not set(hints(EVENT_TYPES[kind])) & {*ON_THE_WIRE, "kind"}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_event_is_read_back_as_it_was_written(kind: str, data: st.DataObject) -> None:
    record = Record(data.draw(any_envelope()), data.draw(any_event(kind)))

    line = encode(record)

    assert check_line(line)["kind"] == kind
    assert repr(decode(line)) == repr(record)  # by its text: NaN does not equal itself
    assert decode(line.rstrip(b"\n")) is not None


@settings(deadline=None, max_examples=60)
@given(name=TEXT.filter(lambda name: name not in EVENT_TYPES), fields=st.dictionaries(TEXT, JSON, max_size=4))
def test_an_unknown_event_is_read_back_as_it_was_written(name: str, fields: dict[str, Any]) -> None:
    fields = {key: value for key, value in fields.items() if key not in {*ON_THE_WIRE, "kind"}}
    record = Record(ENVELOPE, events.Unknown(name, fields))

    line = encode(record)

    check_line(line)
    assert decode(line) == record


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_nan_and_infinity_are_written_as_text(value: float, text: str) -> None:
    fields = {**simple_fields("eval"), "loss": value}

    line = encode(Record(ENVELOPE, events.Eval(**fields)))

    assert check_line(line)["loss"] == text
    event = read(line)
    assert isinstance(event, events.Eval)
    assert str(event.loss) == str(value)


def test_a_line_carries_the_schema_and_the_envelope() -> None:
    body = check_line(encode(Record(ENVELOPE, events.Heartbeat("training", 5, True, 77))))

    fields = {"phase": "training", "progress": 5, "waiting": True, "pid": 77}
    assert body == {**ON_THE_WIRE, "kind": "heartbeat", **fields}


def test_a_message_carries_its_text_for_older_readers() -> None:
    body = check_line(encode(Record(ENVELOPE, events.Notice(Message.of("model_new", seed=7)))))

    assert body["message"] == {
        "code": "model_new",
        "args": {"seed": 7},
        "text": "No pretrained model is named: the weights start at random from seed 7.",
    }


# --- long lines

LONG_TEXTS = ["中" * 100_000, "😀" * 100_000, "\x00" * 100_000, '"\\' * 100_000, "a" * 1_000_000, "\ud800" * 100_000]


@pytest.mark.parametrize("text", LONG_TEXTS, ids=["chinese", "emoji", "control", "quotes", "ascii", "surrogates"])
def test_long_texts_are_cut_and_the_rest_of_the_event_is_kept(text: str) -> None:
    line = encode(Record(ENVELOPE, events.Sample(3, 41, 5, text, text, "short")))

    check_line(line)
    event = read(line)
    assert isinstance(event, events.Sample)
    assert (event.epoch, event.step, event.row, event.prediction) == (3, 41, 5, "short")
    assert event.prompt.endswith("…")
    assert len(event.prompt) >= 250
    assert text.startswith(event.prompt[:-1])


def test_a_text_that_fits_is_not_cut() -> None:
    text = "中" * 9000

    event = read(encode(Record(ENVELOPE, events.Sample(1, 1, 1, text, "", ""))))

    assert isinstance(event, events.Sample)
    assert event.prompt == text


def test_a_step_of_100000_samples_keeps_its_numbers() -> None:
    fields = {**simple_fields("step"), "loss": 1.25, "step": 9, "sample_ids": list(range(10**6, 10**6 + 100_000))}

    line = encode(Record(ENVELOPE, events.Step(**fields)))

    check_line(line)
    event = read(line)
    assert isinstance(event, events.Step)
    assert (event.loss, event.step) == (1.25, 9)
    assert event.sample_ids == fields["sample_ids"][: len(event.sample_ids)]
    assert len(event.sample_ids) > 1000


@pytest.mark.parametrize(("extra", "whole"), [(-1, True), (0, True), (1, False), (2, False)])
def test_a_text_is_cut_exactly_where_its_line_would_be_too_long(extra: int, whole: bool) -> None:
    text = "x" * (MAX_LINE_BYTES - len(encode(Record(ENVELOPE, events.Heartbeat("")))) + extra)

    line = encode(Record(ENVELOPE, events.Heartbeat(text)))

    check_line(line)
    assert (read(line) == events.Heartbeat(text)) == whole


MANY = {f"name {number}": "中" * 10 for number in range(20_000)}
LONG: dict[str, Event] = {
    "message": events.Warning(Message.of("ended_crashed", rank=0, log="中" * 100_000)),
    "evidence": events.RunEnded("failed", 1, Message.of("head_frozen"), {"traceback": "中" * 100_000}),
    "a traceback": events.RankFailed("failed", "training", 1, "中" * 100_000, "中" * 100_000, False),
    "a fix": events.RunEnded("failed", 1, Message.of("head_frozen"), {}, MANY),
    "many pieces of evidence": events.RunEnded("failed", 1, Message.of("head_frozen"), MANY),
    "many readings": events.Gpu(0, "gpu", MANY),
    "a long name of a reading": events.Gpu(0, "gpu", {"k" * 100_000: "1"}),
    "many settings": events.RunStarted(**{**simple_fields("run_started"), "config": MANY}),
    "a setting of many texts": events.RunStarted(**{**simple_fields("run_started"), "config": {"a": ["中"] * 100_000}}),
    "many arguments": events.Notice(Message("of_a_later_version", MANY, "中" * 100_000)),
    "a long kind": events.Unknown("k" * 100_000, {}),
    "many fields": events.Unknown("aurora", MANY),
    "lists in lists": events.Unknown("aurora", {"a": [[["中" * 10] * 50] * 50] * 50}),
}


@pytest.mark.parametrize("name", LONG)
def test_no_event_makes_a_line_too_long(name: str) -> None:
    line = encode(Record(ENVELOPE, LONG[name]))

    check_line(line)
    record = decode(line)
    assert record is not None
    assert record.envelope == ENVELOPE


# --- lines of other versions


def test_an_unknown_kind_is_kept() -> None:
    line = wire("aurora", colour="green", nested={"a": [1, None, True]})

    assert read(line) == events.Unknown("aurora", {"colour": "green", "nested": {"a": [1, None, True]}})
    assert json.loads(encode(Record(ENVELOPE, read(line)))) == json.loads(line)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_do_not_hide_the_event(kind: str) -> None:
    plain, more = wire(kind, **simple_fields(kind)), wire(kind, **simple_fields(kind), colour="green", extra=[1])

    assert type(read(more)) is EVENT_TYPES[kind]
    assert read(more) == read(plain)


@pytest.mark.parametrize("version", [0, 99, None, "two", [1]])
def test_another_schema_is_read_as_far_as_it_is_known(version: Any) -> None:
    line = json.dumps({**ON_THE_WIRE, "v": version, "kind": "heartbeat", "phase": "training"}).encode()

    assert read(line) == events.Heartbeat("training")


def wrong_values(hint: Any) -> list[Any]:
    """Values that are not of a type, as JSON has them."""
    if hint is Message:
        return [
            "text",
            None,
            {},
            {"code": 1, "args": {}},
            {"code": "x", "args": []},
            {"code": "x", "args": {}, "text": 1},
        ]
    hint = bare(hint)
    if get_origin(hint) is dict:
        return [[], None, "text", 3, *([{"a": 1}] if get_args(hint)[1] is str else [])]
    plain: dict[Any, list[Any]] = {
        str: [1, None, ["a"], True],
        int: ["1", 1.5, None, True, [1]],
        bool: ["true", "", 0, 1, None, [True]],
        float: ["1.0", "nan", "inf", None, True, [1.0]],
        list[float]: [{}, None, "text", 3, ["x"], [True], [None]],
        list[int]: [{}, None, "text", 3, ["x"], [1.5], [True], [None]],
        list[str]: [{}, None, "text", 3, [1], [True], [None]],
    }
    return plain[hint]


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_another_type_makes_the_event_unknown(kind: str) -> None:
    for name, hint in hints(EVENT_TYPES[kind]).items():
        for value in wrong_values(hint):
            fields = {**simple_fields(kind), name: value}
            line = wire(kind, **fields)

            assert read(line) == events.Unknown(kind, fields)
            assert json.loads(encode(Record(ENVELOPE, read(line)))) == json.loads(line)


def beyond(hint: Any) -> list[Any]:
    """Values of the right type that are too large, too small or too long for a field."""
    if get_origin(hint) is Annotated and isinstance(get_args(hint)[1], Between):
        bound, kind = get_args(hint)[1], bare(hint)
        huge: list[Any] = [10**400, -(10**400)] if kind is int else [1e308, -1e308]
        strange = [] if kind is int or bound.non_finite else list(NON_FINITE)
        return [kind(bound.low - 1 - abs(bound.low)), kind(bound.high * 2 + 1), *huge, *strange]
    if get_origin(hint) is list:
        return [[value] for value in beyond(get_args(hint)[0])] + [[simple(get_args(hint)[0])] * (MOST_ITEMS + 1)]
    if hint is Message:
        return [{"code": "x", "args": {"a": 10**400}, "text": ""}]
    return [{"a": 10**400}, {"a": [{"b": 10**400}]}] if get_args(bare(hint))[1:] == (Any,) else []


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_beyond_the_bounds_of_its_field_makes_the_event_unknown(kind: str) -> None:
    for name, hint in hints(EVENT_TYPES[kind]).items():
        for value in beyond(hint):
            fields = {**simple_fields(kind), name: value}
            assert events.event_from_json(kind, fields) == events.Unknown(kind, fields), (name, value)


@pytest.mark.parametrize(
    "config",
    [{"save_steps": None}, {"logging_steps": 0}, {"epochs": "3"}, {"learn_rate": [1]}, {"output_dir": 5}],
)
def test_settings_that_no_run_can_have_make_the_event_unknown(config: dict[str, Any]) -> None:
    fields = {**simple_fields("run_started"), "config": config}

    assert type(read(wire("run_started", **fields))) is events.Unknown


def test_settings_that_this_version_does_not_know_are_kept() -> None:
    event = read(wire("run_started", **{**simple_fields("run_started"), "config": {"save_steps": 5, "warp": [1, "x"]}}))

    assert isinstance(event, events.RunStarted)
    assert event.config == {"save_steps": 5, "warp": [1, "x"]}


@pytest.mark.parametrize("mono", [1e308, -1.0, "Infinity", "NaN"])
def test_a_line_with_an_impossible_time_is_no_event(mono: Any) -> None:
    assert decode(json.dumps({**ON_THE_WIRE, "mono": mono, "kind": "heartbeat", "phase": "x"}).encode()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_without_a_field_that_it_needs_is_unknown(kind: str) -> None:
    needed = [
        field.name
        for field in dataclasses.fields(EVENT_TYPES[kind])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    assert needed
    for name in needed:
        fields = {key: value for key, value in simple_fields(kind).items() if key != name}
        assert read(wire(kind, **fields)) == events.Unknown(kind, fields)


def test_a_field_with_a_default_may_be_left_out() -> None:
    assert read(wire("phase", name="loading")) == events.Phase("loading", 0, 0)


def test_what_an_earlier_version_wrote_is_read() -> None:
    """Before heartbeats reported progress, and ends had settings that fix them."""
    assert read(wire("heartbeat", phase="training")) == events.Heartbeat("training", 0, False, 0)
    end = {"reason": "failed", "exit_code": 1, "message": {"code": "head_frozen", "args": {}, "text": "x"}}
    assert read(wire("run_ended", **end)) == events.RunEnded("failed", 1, Message("head_frozen", {}, "x"), {}, {})


def test_a_fix_is_read_back_with_the_kinds_of_its_values() -> None:
    fix = {"micro_batch_tokens": 512, "learn_rate": 2.5e-05, "mixed_precision": "fp32"}

    event = read(encode(Record(ENVELOPE, events.RunEnded("diverged", 1, Message("head_frozen"), {"rank": "1"}, fix))))

    assert isinstance(event, events.RunEnded)
    assert event.apply == fix
    assert {name: type(value) for name, value in event.apply.items()} == {
        "micro_batch_tokens": int,
        "learn_rate": float,
        "mixed_precision": str,
    }


def test_rank_failed_says_why_where_and_whether_it_waited() -> None:
    failure = events.RankFailed("out_of_memory", "training", 7, "MemoryError: ", "Traceback …", waiting=True)

    body = check_line(encode(Record(ENVELOPE, failure)))

    assert body["kind"] == "rank_failed"
    assert (body["reason"], body["step"], body["waiting"]) == ("out_of_memory", 7, True)
    assert read(wire("rank_failed", **{name: body[name] for name in simple_fields("rank_failed")})) == failure


def test_an_integer_is_read_for_a_float() -> None:
    event = read(wire("eval", **{**simple_fields("eval"), "loss": 2}))

    assert isinstance(event, events.Eval)
    assert isinstance(event.loss, float)


@pytest.mark.parametrize("name", [*hints(Envelope), "kind"])
def test_a_line_without_a_full_envelope_is_no_event(name: str) -> None:
    whole: dict[str, Any] = {**ON_THE_WIRE, "kind": "heartbeat", "phase": "training"}
    assert decode(json.dumps(whole).encode()) is not None

    assert decode(json.dumps({key: value for key, value in whole.items() if key != name}).encode()) is None
    of_no_type: list[Any] = [None, [], {}, True]
    for wrong in of_no_type:
        assert decode(json.dumps({**whole, name: wrong}).encode()) is None


# --- hostile lines

HOSTILE = [
    b"",
    b"\n",
    b"null",
    b"[]",
    b"1",
    b'"text"',
    b"{}",
    b"{",
    b'{"v":1',
    b"\x00" * 1000,
    b"\xff\xfe\xfa",
    b"NaN",
    b"1" * 10_000,
    b"1e999999",
    b"[" * 60_000,
    b"[" * 30_000 + b"]" * 30_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "\ufeff{}".encode(),
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-32"),
    b'"\\ud800',
]


@pytest.mark.parametrize("line", HOSTILE, ids=[str(line[:12]) for line in HOSTILE])
def test_a_line_without_an_event_gives_none(line: bytes) -> None:
    assert decode(line) is None


@settings(deadline=None, max_examples=300)
@given(line=st.one_of(st.binary(), JSON.map(json.dumps).map(str.encode)))
def test_any_bytes_can_be_read(line: bytes) -> None:
    record = decode(line)

    assert record is None or isinstance(record, Record)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), cut=st.integers(min_value=1, max_value=60), noise=st.binary(min_size=1, max_size=3))
def test_a_damaged_line_can_be_read(data: st.DataObject, cut: int, noise: bytes) -> None:
    line = wire("warning", message={"code": "rank_failed", "args": {"rank": 1, "why": "x"}, "text": "x"})
    place = data.draw(st.integers(min_value=0, max_value=len(line)))

    decode(line[:place])
    decode(line[:place] + noise + line[place + cut :])

    assert decode(line) is not None


def use(record: Record) -> None:
    """What every viewer does with a record: show its message, and pass it on."""
    if isinstance(record.event, events.Notice | events.Warning | events.RunEnded):
        assert record.event.message.text("en") is not None
        assert record.event.message.text("zh") is not None
    check_line(encode(record))


HOSTILE_ARGS = st.dictionaries(st.sampled_from(["phase", "step", "why"]), JSON)
HOSTILE_MESSAGE = st.fixed_dictionaries(
    {"code": st.sampled_from(sorted(MESSAGES)), "args": HOSTILE_ARGS}, optional={"text": TEXT}
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_anything_read_can_be_shown_and_written_again(kind: str, data: st.DataObject) -> None:
    fields = {
        name: data.draw(st.one_of(JSON, HOSTILE_MESSAGE) if hint is Message else JSON)
        for name, hint in hints(EVENT_TYPES[kind]).items()
    }

    record = decode(wire(kind, **fields))

    assert record is not None
    assert record.envelope == ENVELOPE
    use(record)


@pytest.mark.parametrize("value", [b"1" * 5000, b"1e400", b"-1e400", b"NaN", b"1" * 400, b"1" * 400 + b".5"])
@pytest.mark.parametrize("field", [b'"mono"', b'"attempt"', b'"seq"', b'"loss"', b'"step"', b'"colour"'])
def test_a_number_of_any_size_can_be_read(field: bytes, value: bytes) -> None:
    whole = json.dumps({**ON_THE_WIRE, "kind": "eval", **simple_fields("eval"), "colour": 1}).encode()
    before, after = whole.split(field + b": ")

    record = decode(before + field + b": " + value + after[after.index(b",") if b"," in after else -1 :])

    if record is not None:
        use(record)


@pytest.mark.parametrize("depth", [10, 200, 900, 30_000])
@pytest.mark.parametrize("place", ["field", "args", "config"])
def test_a_deeply_nested_line_can_be_read_and_shown(place: str, depth: int) -> None:
    value = b"[" * depth + b"]" * depth
    line = {
        "field": wire("aurora", a="HERE"),
        "args": wire("warning", message={"code": "ended_stopped_early", "args": {"phase": "HERE"}, "text": ""}),
        "config": wire("run_started", **{**simple_fields("run_started"), "config": {"a": "HERE"}}),
    }[place].replace(b'"HERE"', value)

    record = decode(line)

    if record is not None:
        use(record)


# --- texts within texts


def warned(args: Any) -> events.Event:
    """A warning as another process or an older version wrote it."""
    message = {"code": "model_bad", "args": json.loads(json.dumps(args)), "text": "said then"}
    return events.event_from_json("warning", {"message": message})


def test_a_phrase_is_read_back_in_each_language() -> None:
    event = events.Warning(Message.of("model_bad", path="x", why=Phrase.of("model.tensor_cut", name="a.weight")))
    read = warned(events.event_to_json(event)["message"]["args"])
    assert isinstance(read, events.Warning)
    assert read.message.args == event.message.args
    assert "the content of a.weight is not all there" in read.message.what("en")
    assert "a.weight 的内容不完整" in read.message.what("zh")


def test_a_text_of_an_older_version_has_its_chinese_twin() -> None:
    read = warned({"path": "x", "why": "it is empty", "why_zh": "文件为空"})
    assert isinstance(read, events.Warning)
    assert "x: it is empty." in read.message.what("en")
    assert "x 加载模型：文件为空。" in read.message.what("zh")


def test_a_phrase_that_is_not_known_shows_what_its_writer_said() -> None:
    read = warned({"path": "x", "why": {"key": "model.later", "args": {}, "text": "it is of tomorrow"}})
    assert isinstance(read, events.Warning)
    assert "it is of tomorrow" in read.message.what("zh")


@pytest.mark.parametrize("why", [{"key": 1, "args": {}}, {"key": "x"}, {"key": "x", "args": []}, [1], [[["x"]]], None])
def test_an_argument_that_is_no_phrase_spoils_only_its_event(why: Any) -> None:
    assert isinstance(warned({"path": "x", "why": why}), events.Unknown)


def test_phrases_within_phrases_are_bounded() -> None:
    why: Any = "deep"
    for _ in range(9):
        why = {"key": "list.counted", "args": {"what": why, "count": 1}, "text": ""}
    assert isinstance(warned({"path": "x", "why": why}), events.Unknown)
