"""When a run's supervisor sends a notice: at the end, and once each for a stall, a divergence and a full disk."""

import math
import subprocess

from engine.contract import events
from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from engine.contract.texts import language, say
from sft_tui import notifying, text
from sft_tui.event_text import status_name
from sft_tui.notifying import Kind, Notice
from sft_tui.supervise.stall import Watch

EARLY = 0.5  # of the time after which a rank without progress is ended
LEAST_DISK = 1e9  # bytes
CHECKPOINTS = 2  # more of the size of the last one should fit
SETTLED_STEPS = 50  # before these the loss may do anything
SMOOTHED = 0.9  # of the smoothed loss remains at each step
FAR_ABOVE = 2.0  # times the lowest smoothed loss


class LossWatch:
    """Whether a loss diverges: it is not finite, or smoothed it is far above its lowest."""

    def __init__(self) -> None:
        self._steps, self._smooth, self._lowest = 0, math.nan, math.inf

    def diverges(self, step: events.Step) -> bool:
        """Takes the next step into account."""
        if not math.isfinite(step.loss):
            return True
        self._steps += 1
        before = step.loss if math.isnan(self._smooth) else self._smooth
        self._smooth = SMOOTHED * before + (1 - SMOOTHED) * step.loss
        if self._steps <= SETTLED_STEPS:
            return False
        self._lowest = min(self._lowest, self._smooth)
        return self._smooth > FAR_ABOVE * self._lowest


class Notices:
    """The notices of one attempt; without a configured command or address it does nothing."""

    def __init__(self, run_dir: RunDir, log: EventWriter) -> None:
        self._run_dir, self._log = run_dir, log
        self._sent: set[Kind] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._loss, self._checkpoint = LossWatch(), 0
        self._failed = False
        try:
            self.active = bool(notifying.target())
        except InputError as error:
            self.active = False
            log.write(events.Warning(error.message))

    def take(self, event: events.Event) -> None:
        """Takes an event of the run into account."""
        if not self.active:
            return
        match event:
            case events.Step() if self._loss.diverges(event):
                self._once("diverging", step=event.step, loss=text.number(event.loss))
            case events.Checkpoint():
                self._checkpoint = event.size
            case events.Host() if event.disk_available < max(LEAST_DISK, CHECKPOINTS * self._checkpoint):
                self._once("disk", free=text.size(event.disk_available))

    def look(self, watch: Watch) -> None:
        """Sends a notice of a rank that has made no progress for long, once until it makes progress again; reaps."""
        if not self.active:
            return
        late = watch.overdue(EARLY)
        if late is None:
            self._sent.discard("stalled")
        else:
            self._once("stalled", rank=late.rank, minutes=f"{late.seconds / 60:.1f}")
        self._reap()

    def end(self, end: events.RunEnded) -> None:
        """Sends the notice of the end; the last thing that a supervisor does, and it does not wait."""
        if self.active:
            lang = language()
            title = say("notify.ended", lang, run=self._name, status=status_name(end.reason, lang))
            self._send("ended", end.reason, title, end.message.text(lang))

    @property
    def pids(self) -> list[int]:
        """The processes that are sending a notice."""
        return [process.pid for process in self._processes if process.poll() is None]

    @property
    def _name(self) -> str:
        return self._run_dir.path.name

    def _once(self, kind: Kind, **said: object) -> None:
        if kind not in self._sent:
            self._sent.add(kind)
            lang = language()
            title = say(f"notify.{kind}", lang, run=self._name)
            self._send(kind, "running", title, say(f"notify.{kind}_text", lang, **said))

    def _send(self, kind: Kind, status: str, title: str, words: str) -> None:
        notice = Notice(kind, self._name, status, title, words, str(self._run_dir.path.absolute()))
        process = notifying.begin(notice.harmless())
        if process is not None:
            self._processes.append(process)

    def _reap(self) -> None:
        """Notes the first notice that could not be sent; why is in the supervisor's output."""
        ended = [process for process in self._processes if process.poll() is not None]
        self._processes = [process for process in self._processes if process not in ended]
        if not self._failed and any(process.returncode for process in ended):
            self._failed = True
            self._log.write(events.Warning(Message.of("notify_failed", path=str(self._run_dir.supervisor_output))))
