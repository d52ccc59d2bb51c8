"""Runs whose files somebody else wrote: no viewer raises, nothing of them reaches a terminal raw, nothing is written
outside the run's own folder."""

import contextlib
import copy
import fcntl
import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from engine.contract import events
from engine.contract.bounds import as_json, read_as
from engine.contract.events import Envelope, Event, Record, decode, encode, event_to_json
from engine.contract.locks import LOCK_NAME
from engine.contract.manifest import MANIFEST
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.processes import ProcessId
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui import conversation, headless, listing, removal, starting
from sft_tui.cli import main, run_commands, showing, starting_commands
from sft_tui.curves import Curves
from sft_tui.feed import Feed
from sft_tui.history import Follower
from sft_tui.run_state import RunState, reduce
from sft_tui.runs import Run, read_run
from sft_tui.screen import run_view
from sft_tui.screen.run_contents import RunView, Selection
from tests.catalogues import MESSAGES
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.test_output import HOSTILE, obeyed
from tests.writes import Watch

PATH = HOSTILE.replace("\0", "").replace("\ud800", "")  # as far as a setting can hold it
MUTANTS = (
    range(1000),
    pytest.param(range(1000, 2000), marks=pytest.mark.slow),
)  # seeds; and all that EXTREMES make of each field
SEEN_BY_COMMANDS = 40  # of them, by each command that shows runs and each that acts on one
LANGUAGES: tuple[Lang, Lang] = ("en", "zh")
COMMANDS = (
    ("runs",), ("runs", "--json"), ("status",), ("status", "--json"), ("logs",), ("logs", "--json"),
    ("attach", "--no-ui"), ("attach", "--json"),
)  # fmt: skip
ACTING = (
    ("stop", "--no-wait"), ("stop", "--now", "--no-wait"), ("pause", "--no-wait"),
    ("continue", "--detach"), ("resume", "--detach"), ("resume", "--apply-fix", "--detach"),
    ("run", "sft-small", "--resume", "--detach", "--output_dir", "model_save/small"),
    ("test", "--run", "sft-small-1", "--detach"), ("reply", "--run", "sft-small-1", "hello"),
)  # fmt: skip
WRONG: list[Any] = [
    None, True, -1, 0, 1, 7.5, 2**53 + 1, 10**400, -(10**400), 1e308, -1e308, 1e-308, "", "NaN", "Infinity", HOSTILE,
    "x" * 5000, [], [None], [HOSTILE], [10**400], {}, {"a": 1}, {HOSTILE: HOSTILE}, {"save_steps": None},
    {"logging_steps": 0}, {"output_dir": "/elsewhere"}, {"output_dir": "elsewhere"},
    "elsewhere", "../elsewhere", ".", {"peak_rank0": "9" * 400}, {"epochs": [1, 2, 3]},
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


ZEROS = {"size": 3, "sha256": "0" * 64}
MINE = hashlib.sha256(b"mine").hexdigest()  # of a file that is nobody's but its owner's


class Files:
    """The files of one run and of its output folder, and what a mutation made of them."""

    def __init__(
        self, run_dir: RunDir, output: OutputDir, record: dict[str, Any], another: "subprocess.Popen[bytes]"
    ) -> None:
        self.another = another
        named = vars(ProcessId.of(another.pid))
        holder = {"run": record["run"], "run_dir": str(run_dir.path), "since": "", **named}
        self.run_dir, self.output = run_dir, output
        self._record = record
        weights = output.checkpoint(50) / "trained.safetensors"
        owner = {"run": record["run"], "id": record["id"], "run_dir": str(run_dir.path), "best": ["config.json"]}
        self._others = {
            output.owner_file: owner,
            output.evaluations: {"1": {"loss": 2.5, "bleu": 3.5}},
            output.exported: {"path": str(output.best / "x.bin"), "source": "", "files": [ZEROS]},
            output.checkpoint(50) / MANIFEST: {"step": 50, "files": {weights.name: ZEROS}},
            output.best / "config.json": {},
            run_dir.processes: {"supervisor": {}, "ranks": [named]},
            run_dir.path / LOCK_NAME: holder,
            output.path / LOCK_NAME: holder,
        }
        self.sound()

    def sound(self) -> None:
        """Forgets what mutations made."""
        self.lines, self.record = list(LINES), copy.deepcopy(self._record)
        self.snapshot: bytes | None = None
        self.others = {path: json.dumps(value).encode() for path, value in self._others.items()}

    def write(self) -> None:
        """Puts them where the run is, and nothing else."""
        for folder in (self.run_dir.path, self.output.path):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for path, content in self.others.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.run_dir.events.write_bytes(b"".join(self.lines))
        self.run_dir.record.write_text(json.dumps(self.record), encoding="utf-8")
        if self.snapshot is not None:
            self.run_dir.snapshot.write_bytes(self.snapshot)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """A sound run in a folder with another run, its output, and a folder of somebody else's; it names another one."""
    monkeypatch.chdir(tmp_path)
    for name in ("home", "tmp", "elsewhere", "logs/other-1", "model_save/other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "RUN.json").write_text('{"run": "other-1", "id": "1"}')
        (tmp_path / name / "mine.txt").write_text("mine")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    run_dir, output = RunDir(tmp_path / "logs" / "sft-small-1"), OutputDir(tmp_path / "model_save" / "small")
    rows = {name: str(tmp_path / "elsewhere" / "mine.txt") for name in ("train_file", "validation_file", "test_file")}
    inputs = {**rows, "tokenizer": str(tmp_path / "elsewhere"), "pretrained_model": ""}
    config = {**STARTED.config, **inputs, "output_dir": str(output.path)}
    option = "sft-tui resume sft-small-1"
    asked = RunRecord("sft-small-1", "sft-small", "train", config, resume_option=option, id=new_id())
    another = subprocess.Popen(["sleep", "600"])
    try:
        yield Files(run_dir, output, as_json(asked), another)
    finally:
        another.kill()
        another.wait()


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


def mutate_another(files: Files, random: Random) -> None:
    """Changes what a run and its output folder have next to these: owner, scores, manifest, processes, lock, export."""
    path = random.choice(list(files.others))
    if random.random() < 0.2:
        files.others[path] = noise(files.others[path], random)
        return
    body = json.loads(files.others[path]) or {"a": 1}
    change(body, random)
    files.others[path] = json.dumps(body).encode()


PLACES = (
    "elsewhere",
    "model_save/other",
    "logs/other-1",
    "logs",
    "home",
    ".",
    "..",
    "model_save",
    "elsewhere/mine.txt",
)


def mutate_place(files: Files, random: Random) -> None:
    """Has a file of the run name somebody else's place: as its output folder, its run, a best model or an export."""
    place, what = str(Path(random.choice(PLACES)).absolute()), random.random()
    if what < 0.6:
        files.record["config"] = {**files.record["config"], "output_dir": place}
    elif what < 0.8:
        files.others[files.output.exported] = json.dumps(
            {"path": place, "source": "", "files": [{"size": 4, "sha256": MINE}]}
        ).encode()
    else:
        owner = json.loads(files.others[files.output.owner_file])
        change = {"run_dir": place} if what < 0.9 else {"best": ["config.json", f"../../../{random.choice(PLACES)}"]}
        files.others[files.output.owner_file] = json.dumps(owner | change).encode()


MUTATIONS: tuple[Callable[[Files, Random], None], ...] = (
    mutate_event, mutate_event, mutate_event, mutate_record, mutate_snapshot, mutate_another,
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
    lines = run_view.draw(RunView(ended, curves, [], lang=lang), 100, 30)
    out.writelines(text for line in lines for text, _ in line)
    return out.getvalue()


def commanded(lang: Lang, monkeypatch: pytest.MonkeyPatch, commands: tuple[tuple[str, ...], ...] = COMMANDS) -> str:
    """What the commands print; an error of ours is one of their answers."""
    for module in (run_commands, showing, starting_commands):
        monkeypatch.setattr(module, "LANG", lang)
    said = []
    for command in commands:
        result = CliRunner().invoke(main.cli, command)
        if not isinstance(result.exception, InputError | SystemExit | None):
            raise result.exception
        error = result.exception.message.text(lang) if isinstance(result.exception, InputError) else ""
        said.append(result.output + error)
    return "".join(said)


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """The lock of a folder as a process of the run would hold it, so that the run counts as alive."""
    with contextlib.ExitStack() as opened:
        if folder is not None:
            file = opened.enter_context((folder / LOCK_NAME).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def acted_on(files: Files, lang: Lang, monkeypatch: pytest.MonkeyPatch, locked: Path | None = None) -> str:
    """What the commands that act on a run print, each with the run as it was written, and then its deletion.

    `locked`: the folder whose lock somebody holds while they act: the run's, its output folder, or none.
    """
    said = ""
    for command in ACTING:
        with held(locked):
            said += commanded(lang, monkeypatch, (command,))
        files.write()
    try:
        removal.remove(read_run(files.run_dir))
    except InputError as error:
        said += error.message.text(lang).replace(str(files.run_dir.path), "")
    return said


HELD = "the place of a supervisor"


@pytest.fixture
def not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a command where it would start a process: a supervisor, or what replies."""

    def refuse(*_: object) -> None:
        raise InputError("busy", path=HELD, holder="", holder_zh="", run="")

    monkeypatch.setattr(starting, "start", refuse)
    monkeypatch.setattr(conversation, "module_command", refuse)


def elsewhere(watch: Watch, files: Files) -> list[tuple[Path, str]]:
    """What was changed outside the run's log and output folder."""
    own = {files.run_dir.path, files.run_dir.plain_log, files.output.path}
    return sorted(change for change in watch.changes() if change[0] not in own)


@pytest.mark.usefixtures("not_started")
@pytest.mark.parametrize("seeds", MUTANTS, ids=["some", "more"])
def test_viewers_of_foreign_runs_neither_raise_nor_write(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    files.write()
    with Watch([tmp_path], own=[files.run_dir.path, files.output.path]) as watch:
        for seed in seeds:
            random = Random(seed)
            files.sound()
            random.choice(MUTATIONS)(files, random)
            seen = seed % (len(seeds) // SEEN_BY_COMMANDS)  # by commands that show runs, by those that act, or by none
            if seen == 0:
                mutate_place(files, random)
            files.write()
            lang = random.choice(LANGUAGES)
            try:
                text = shown(files, lang)
                if seen < 2:
                    locked = random.choice([None, files.run_dir.path, files.output.path])
                    text += commanded(lang, monkeypatch) if seen else acted_on(files, lang, monkeypatch, locked)
                assert not obeyed(text)
                assert elsewhere(watch, files) == []
                assert files.another.poll() is None
            except Exception as error:
                raise AssertionError(f"mutant {seed}") from error


@pytest.mark.usefixtures("not_started")
def test_a_sound_run_is_found_and_deleted_whole(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = events.RunEnded("out_of_memory", 1, Message("ended_failed", {}), apply={"micro_batch_tokens": 64})
    files.lines[-1] = line_of(len(STORY), ended)
    files.write()
    said = acted_on(files, "en", monkeypatch)
    assert said.count("sft-small-1") >= 5
    assert said.count(HELD) == 5  # as far as the start of a supervisor, or of what replies
    assert said.count("micro_batch_tokens = 64") == 1
    assert not files.run_dir.path.exists()
    assert not files.output.path.exists()


@pytest.mark.parametrize("place", ["run_dir", "output"])
def test_a_foreign_pid_in_a_record_is_not_signalled(files: Files, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    files.write()
    locked = files.run_dir.path if place == "run_dir" else files.output.path
    with held(locked):
        commanded("en", monkeypatch, ACTING[1:3])
    assert files.run_dir.now_request.exists()
    assert files.run_dir.stop_requested() == "pause"
    assert files.another.poll() is None


def test_the_watch_sees_what_a_child_writes_removes_or_changes(files: Files, tmp_path: Path) -> None:
    files.write()
    with Watch([tmp_path], own=[files.run_dir.path, files.output.path]) as watch:
        assert elsewhere(watch, files) == []
        subprocess.run(["touch", files.run_dir.events, tmp_path / "home" / "new"], check=True)
        subprocess.run(["rm", tmp_path / "logs" / "other-1" / "mine.txt"], check=True)
        changed = dict(elsewhere(watch, files))
    assert set(changed) == {tmp_path / "home" / "new", tmp_path / "logs" / "other-1" / "mine.txt"}


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
def test_no_extreme_value_of_an_event_makes_a_viewer_raise(files: Files, kind: str) -> None:
    asked = read_as(RunRecord, files.record)
    sound = [decode(line) for line in LINES]
    place = next(number for number, event in enumerate(STORY) if event.kind == kind)
    for count, body in enumerate(extreme_bodies(STORY[place])):
        lang, out, state, curves = LANGUAGES[count % 2], io.StringIO(), RunState(), Curves()
        view = headless.PlainView(lang, out, out)
        records = [*sound[:place], decode(json.dumps(body).encode()), *sound[place + 1 :]]
        for record in filter(None, records):
            state = reduce(state, record)
            curves.add(record)
            view.show(record)
        for alive in (True, False):
            run = Run(files.run_dir, asked, state, alive)
            out.writelines([listing.status_line(run, lang), *listing.table([run], lang), json.dumps(run.to_json())])
        if count % 4 == 0:
            drawn = run_view.draw(RunView(run, curves, [], lang=lang), 100, 30)
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
        if name == "measures":
            known = {measure: {**one, "signature": HOSTILE} for measure, one in event_to_json(event)[name].items()}
            fields[name] = {**known, HOSTILE: {"value": 1.0, "signature": HOSTILE}}
        if name == "evidence":
            fields[name] = {HOSTILE: HOSTILE, "peak_x": HOSTILE}
    return fields


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_foreign_text_reaches_a_terminal_raw(files: Files, lang: Lang, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_screen_shows_foreign_log_lines_harmlessly(files: Files, lang: Lang) -> None:
    envelope = {"v": 1, "at": HOSTILE, "mono": 1.0, "attempt": 1, "src": HOSTILE, "seq": 1}
    files.lines = [json.dumps({**envelope, "kind": one.kind, **hostile(one)}).encode() + b"\n" for one in STORY]
    files.write()
    feed = Feed(files.run_dir, lang)
    feed.poll()
    shot = feed.latest()
    assert shot is not None
    view = RunView(shot.run, shot.curves, shot.log, Selection(level="all"), lang=lang)
    for width, height in ((80, 24), (160, 60)):
        drawn = "".join(text for line in run_view.draw(view, width, height) for text, _ in line)
        assert not obeyed(drawn)
