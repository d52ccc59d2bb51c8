"""Runs whose files somebody else wrote: no viewer raises, nothing of them reaches a terminal raw, nothing is written
outside the run's own folder."""

import copy
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from engine.contract import events
from engine.contract.events import Envelope, Event, Record, decode, encode, event_to_json
from engine.contract.messages import MESSAGES, InputError, Lang, Message
from engine.contract.rundir import RunDir, RunRecord
from sft_tui import cli, headless, listing
from sft_tui.curves import Curves
from sft_tui.feed import Feed
from sft_tui.history import Follower
from sft_tui.run_state import RunState, reduce
from sft_tui.runs import Run
from sft_tui.screen import run_view
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.test_output import HOSTILE, obeyed

PATH = HOSTILE.replace("\0", "").replace("\ud800", "")  # as far as a setting can hold it
MUTANTS = 1000  # and all that EXTREMES make of each field
SEEN_BY_COMMANDS = 25  # of them
LANGUAGES: tuple[Lang, Lang] = ("en", "zh")
COMMANDS = (
    ("runs",), ("runs", "--json"), ("status",), ("status", "--json"), ("logs",), ("logs", "--json"),
    ("attach", "--no-ui"), ("attach", "--json"),
)  # fmt: skip
WRONG: list[Any] = [
    None, True, -1, 0, 1, 7.5, 2**53 + 1, 10**400, -(10**400), 1e308, -1e308, 1e-308, "", "NaN", "Infinity", HOSTILE,
    "x" * 5000, [], [None], [HOSTILE], [10**400], {}, {"a": 1}, {HOSTILE: HOSTILE}, {"save_steps": None},
    {"logging_steps": 0}, {"output_dir": "/elsewhere"}, {"peak_rank0": "9" * 400}, {"epochs": [1, 2, 3]},
    {"code": HOSTILE, "args": {HOSTILE: HOSTILE}, "text": HOSTILE}, {"code": "ended_failed", "args": {}, "text": ""},
    *({"code": code, "args": dict.fromkeys(("rank", "step", "phase"), HOSTILE)} for code in sorted(MESSAGES)[::40]),
]  # fmt: skip
EXTREMES: list[Any] = [
    None, True, -1, 0, 2**53 + 1, 10**400, 1e308, 1e-308, "NaN", "Infinity", HOSTILE, [], [10**400], {},
]  # fmt: skip
STORY: list[Event] = [
    STARTED,
    PLAN,
    events.Phase("hashing", 3, 9),
    events.Phase("training"),
    *(step(number) for number in range(47, 52)),
    EVAL,
    events.Sample(1, 50, 3, "你好", "你好，有什么可以帮你？", "你好"),
    events.Checkpoint(1, 50, "out/checkpoints/step-00000050", 240_000_000, 1.4, ["step-00000001"]),
    events.Host(16_000_000_000, 6_900_000_000, [2_900_000_000, 2_800_000_000], 96.0, 44_790_000_000),
    events.Gpu(0, "NVIDIA GeForce RTX 3060", {"utilization": "93", "memory_used": "6549825945"}),
    events.Heartbeat("training", 5, False, 77),
    events.RankFailed("failed", "training", 51, "ValueError: x", "Traceback …", False),
    events.Notice(Message.of("model_new", seed=7)),
    events.Warning(Message.of("log_gap", lost=3, why="No space left on device")),
    events.RunEnded(
        "failed",
        1,
        Message.of("ended_failed", rank=0, phase="training", why="x", log="y", resume_option="z"),
        {"peak_memory_rank0": "2900000000", "rank": "0"},
        {"learn_rate": 2.5e-5},
    ),
]


def line_of(number: int, event: Event) -> bytes:
    """The line of an event of the story."""
    return encode(Record(Envelope("2026-01-05T09:14:07.000Z", number * 0.4, 1, "rank0", number), event))


LINES = [line_of(number, event) for number, event in enumerate(STORY)]


class Files:
    """The files of one run, and what a mutation made of them."""

    def __init__(self, run_dir: RunDir, record: dict[str, Any]) -> None:
        self.run_dir, self.lines, self.record = run_dir, list(LINES), copy.deepcopy(record)
        self.snapshot: bytes | None = None

    def write(self) -> None:
        """Puts them where the run is."""
        for path in self.run_dir.path.iterdir():
            path.unlink()
        self.run_dir.events.write_bytes(b"".join(self.lines))
        self.run_dir.record.write_text(json.dumps(self.record), encoding="utf-8")
        if self.snapshot is not None:
            self.run_dir.snapshot.write_bytes(self.snapshot)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A sound run, and a folder elsewhere that it names."""
    monkeypatch.chdir(tmp_path)
    run_dir = RunDir(tmp_path / "logs" / "sft-small-1")
    run_dir.path.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    config = {**STARTED.config, "output_dir": str(tmp_path / "elsewhere")}
    asked = RunRecord("sft-small-1", "sft-small", "train", config, resume_option="sft-tui resume sft-small-1")
    return Files(run_dir, vars(asked))


# --- mutations


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of plain values: the object or list, and the key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places_in(item)


def change(body: dict[str, Any], random: Random) -> None:
    """Replaces, removes or adds a value somewhere."""
    where, key = random.choice(list(places_in(body)))
    what = random.random()
    if what < 0.8:
        where[key] = copy.deepcopy(random.choice(WRONG))
    elif what < 0.9:
        del where[key]
    else:
        body[random.choice(["kind", "colour", HOSTILE])] = copy.deepcopy(random.choice(WRONG))


def noise(content: bytes, random: Random) -> bytes:
    """Flips bits, or cuts something out."""
    damaged = bytearray(content)
    for _ in range(random.choice([1, 1, 3])):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    if random.random() < 0.3:
        place = random.randrange(len(damaged))
        del damaged[place : place + random.randrange(1, 40)]
    return bytes(damaged)


def mutate_event(files: Files, random: Random) -> None:
    """Changes a line of the stream, or the order of its lines."""
    place = random.randrange(len(files.lines))
    what = random.random()
    if what < 0.8:
        body = json.loads(files.lines[place])
        change(body, random)
        files.lines[place] = json.dumps(body).encode() + b"\n"
    elif what < 0.9:
        files.lines[place] = noise(files.lines[place], random)
    else:
        random.shuffle(files.lines)


def mutate_record(files: Files, random: Random) -> None:
    """Changes what the run was asked to do."""
    change(files.record, random)


def mutate_snapshot(files: Files, random: Random) -> None:
    """Changes the snapshot, half the time with a hash that fits."""
    files.write()
    follower = Follower(files.run_dir)
    follower.poll()
    follower.save()
    content = files.run_dir.snapshot.read_bytes()
    if random.random() < 0.2:
        files.snapshot = noise(content, random)
        return
    value = json.loads(content)
    del value["sha256"]
    change(value, random)
    own = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    files.snapshot = json.dumps({"sha256": own if random.random() < 0.7 else "0" * 64, **value}).encode()


MUTATIONS: tuple[Callable[[Files, Random], None], ...] = (
    mutate_event, mutate_event, mutate_event, mutate_record, mutate_snapshot,
)  # fmt: skip


# --- what viewers make of it


def shown(files: Files, lang: Lang) -> str:
    """What all that show a run as text say of it; a record that is refused is said so."""
    try:
        record = files.run_dir.read_record()
    except InputError as error:
        return error.message.text(lang).replace(str(files.run_dir.path), "")
    out = io.StringIO()
    follower, view = Follower(files.run_dir), headless.PlainView(lang, out, out)
    for one in follower.poll():
        view.show(one)
    run = Run(files.run_dir, record, follower.state, alive=True)
    ended = Run(files.run_dir, record, follower.state, alive=False)
    for state in (run, ended):
        out.writelines([listing.status_line(state, lang), *listing.table([state], lang)])
        json.dumps(state.to_json())
    curves = follower.curves
    lines = run_view.draw(run_view.View(ended, curves, [], lang=lang), 100, 30)
    out.writelines(text for line in lines for text, _ in line)
    return out.getvalue()


def commanded(lang: Lang, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the commands print; an error of ours is one of their answers."""
    monkeypatch.setattr(cli, "LANG", lang)
    said = []
    for command in COMMANDS:
        result = CliRunner().invoke(cli.cli, command)
        if not isinstance(result.exception, InputError | SystemExit | None):
            raise result.exception
        said.append(result.output)
    return "".join(said)


WATCHED = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
touched: list[str] | None = None  # what is written to, while somebody watches


def note(event: str, args: tuple[Any, ...]) -> None:
    """Notes what Python writes to, opens for writing, makes, renames or removes."""
    if touched is None:
        return
    if event == "open" and isinstance(args[0], str | bytes) and isinstance(args[2], int) and args[2] & WRITING:
        touched.append(os.fsdecode(args[0]))
    elif event in WATCHED:
        touched.extend(os.fsdecode(path) for path in args[:2] if isinstance(path, str | bytes | os.PathLike))


sys.addaudithook(note)


@contextmanager
def writes_only_in(run_dir: RunDir) -> Iterator[None]:
    """Fails where anything but what belongs to the run is written to meanwhile."""
    global touched  # a hook stays for good and knows no one else
    touched = []
    try:
        yield
        outside = {path for path in touched if not Path(path).absolute().is_relative_to(run_dir.path)}
        assert not {path for path in outside if "__pycache__" not in path} - {os.devnull, str(run_dir.plain_log)}
    finally:
        touched = None


def test_no_viewer_raises_and_nothing_is_raw_or_written_elsewhere(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = files.lines, files.record
    for seed in range(MUTANTS):
        random = Random(seed)
        files.lines, files.record, files.snapshot = list(sound[0]), copy.deepcopy(sound[1]), None
        random.choice(MUTATIONS)(files, random)
        files.write()
        lang = LANGUAGES[seed % 2]
        try:
            with writes_only_in(files.run_dir):
                text = shown(files, lang)
                if seed % (MUTANTS // SEEN_BY_COMMANDS) == 0:
                    text += commanded(lang, monkeypatch)
            assert not obeyed(text)
        except Exception as error:
            raise AssertionError(f"mutant {seed}") from error
    assert list((tmp_path / "elsewhere").iterdir()) == []


def extreme_bodies(event: Event) -> Iterator[dict[str, Any]]:
    """An event with an extreme value in each place of it and of its envelope, one at a time."""
    body = json.loads(line_of(5, event))
    if "config" in body:
        body["config"] = {name: body["config"][name] for name in ("save_steps", "logging_steps", "output_dir")}
    for place in range(len(list(places_in(body)))):
        for value in EXTREMES:
            changed = copy.deepcopy(body)
            where, key = list(places_in(changed))[place]
            where[key] = value
            yield changed


@pytest.mark.parametrize("kind", sorted({event.kind for event in STORY}))
def test_no_extreme_value_in_any_place_of_an_event_makes_a_viewer_raise(files: Files, kind: str) -> None:
    asked = RunRecord(**files.record)
    sound = [decode(line) for line in LINES]
    place = next(number for number, event in enumerate(STORY) if event.kind == kind)
    for count, body in enumerate(extreme_bodies(STORY[place])):
        lang, out, state, curves = LANGUAGES[count % 2], io.StringIO(), RunState(), Curves()
        view = headless.PlainView(lang, out, out)
        records = [*sound[:place], decode(json.dumps(body).encode()), *sound[place + 1 :]]
        for record in filter(None, records):
            state = reduce(state, record)
            curves.take(record)
            view.show(record)
        for alive in (True, False):
            run = Run(files.run_dir, asked, state, alive)
            out.writelines([listing.status_line(run, lang), *listing.table([run], lang), json.dumps(run.to_json())])
        if count % 4 == 0:
            drawn = run_view.draw(run_view.View(run, curves, [], lang=lang), 100, 30)
            out.writelines(text for line in drawn for text, _ in line)
        assert not obeyed(out.getvalue()), body


# --- every text of every event


def with_texts(value: Any) -> Any:
    """Plain values with a hostile text in the place of each."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [with_texts(item) for item in value]
    if isinstance(value, dict):
        return {HOSTILE + name: with_texts(item) for name, item in value.items()}
    return value


def hostile(event: Event) -> dict[str, Any]:
    """The fields of an event, each text in it hostile; a message once with its own code, so that its words are said."""
    fields = {name: value for name, value in event_to_json(event).items() if name != "kind"}
    for name, value in fields.items():
        fields[name] = with_texts(value)
        if name == "message":
            args = {arg: HOSTILE if isinstance(item, str) else item for arg, item in value["args"].items()}
            fields[name] = {"code": value["code"], "args": args, "text": HOSTILE}
        if name == "config":
            fields[name] = {**value, "output_dir": PATH, HOSTILE: HOSTILE}
        if name == "overrides":
            fields[name] = {HOSTILE: [HOSTILE, HOSTILE]}
        if name == "evidence":
            fields[name] = {HOSTILE: HOSTILE, "peak_x": HOSTILE}
    return fields


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_text_of_an_event_or_a_record_reaches_a_terminal_raw(
    files: Files, lang: Lang, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = {"v": 1, "at": HOSTILE, "mono": 1.0, "attempt": 1, "src": HOSTILE, "seq": 1}
    bodies = [{**envelope, "kind": event.kind, **hostile(event)} for event in STORY]
    files.lines = [json.dumps(body).encode() + b"\n" for body in bodies]
    texts = {name: HOSTILE for name, value in files.record.items() if isinstance(value, str) and name != "job"}
    files.record |= texts | {"overrides": {HOSTILE: [HOSTILE]}}
    files.write()
    records = Follower(files.run_dir).poll()
    assert [type(record.event) for record in records] == [type(event) for event in STORY]  # all of it is shown
    text = shown(files, lang) + commanded(lang, monkeypatch)
    assert "中␛]0;pwn␇<U+009B>31m<U+202E>" in text
    assert not obeyed(text)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_screen_shows_the_lines_of_a_foreign_log_harmless(files: Files, lang: Lang) -> None:
    envelope = {"v": 1, "at": HOSTILE, "mono": 1.0, "attempt": 1, "src": HOSTILE, "seq": 1}
    files.lines = [json.dumps({**envelope, "kind": one.kind, **hostile(one)}).encode() + b"\n" for one in STORY]
    files.write()
    feed = Feed(files.run_dir, lang)
    feed.poll()
    shot = feed.shot()
    assert shot is not None
    view = run_view.View(shot.run, shot.curves, shot.log, run_view.Look(level="all"), lang=lang)
    for width, height in ((80, 24), (160, 60)):
        drawn = "".join(text for line in run_view.draw(view, width, height) for text, _ in line)
        assert not obeyed(drawn)
