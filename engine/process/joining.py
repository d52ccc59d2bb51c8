"""A rank joins its run; what keeps it from that is certified in the run's folder, as every other end is."""

import contextlib
import os
import sys
import time
import traceback

from engine.contract import certificate
from engine.contract.events import Event, RankFailed, RunEnded
from engine.contract.harmless import harmless
from engine.contract.launch import OURS
from engine.contract.messages import BusyError, InputError
from engine.contract.processes import host_name
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, last_attempt, next_attempt
from engine.contract.untrusted import one_line
from engine.process.attempt import leave
from engine.process.device_errors import connection_broke, kind_of
from engine.process.heartbeat import attempt_from_environment, supervised
from engine.process.job import StopAskedError
from engine.process.waiting import Waiting
from engine.process.world import World

FIRST_SECONDS = 3.0  # for which a rank lets rank 0 say why none of them could join
LOOK_SECONDS = 0.1


def joined(run_dir: RunDir) -> World:
    """The world of a run; if this rank cannot join it, says why and ends this process."""
    record: RunRecord | None = None
    attempt = attempt_from_environment()
    with contextlib.suppress(InputError):  # the job reports it
        record = run_dir.read_record()
        attempt = attempt or next_attempt(run_dir.events)
    launch, name = (record.launch, record.id) if record else (OURS, "")
    waiting = Waiting(run_dir)
    try:
        world = World(launch, name, waiting.report)
        world.attempt = waiting.attempt
        waiting.over()
        return world
    except StopAskedError as stop:  # before all had come
        reason = "paused" if run_dir.stop_requested() == "pause" else "stopped"
        waiting.ended(RunEnded(reason, 0, stop.message))
        leave(0)
    except InputError as error:
        print(harmless(str(error)), file=sys.stderr)
        end = RunEnded("refused", error.exit_code, error.message)
        if not waiting.ended(end) and not isinstance(error, BusyError):  # or else other ranks write to the stream
            _certify(run_dir, end, attempt)
        leave(error.exit_code)
    except Exception as error:
        print(harmless(traceback.format_exc()), file=sys.stderr)
        failure = _failure(error)
        if supervised():
            _write(run_dir, failure, attempt)
        elif record is not None:
            log = run_dir.trainer_output if run_dir.trainer_output.exists() else run_dir.events
            end = certificate.failed(record, failure.rank, failure, str(log))
            print(harmless(end.message.text()), file=sys.stderr)
            if not waiting.ended(end):
                _certify(run_dir, end, attempt)
        leave(1)


def _rank() -> int:
    number = os.environ.get("RANK", "0")
    return int(number) if number.isdecimal() else 0


def _failure(error: Exception) -> RankFailed:
    """The error that is being handled, as this rank's end."""
    return RankFailed(
        reason=kind_of(error),
        phase="starting",
        step=0,
        why=f"{type(error).__name__}: {one_line(error, 600)}",
        traceback=traceback.format_exc(limit=-8),
        waiting=connection_broke(error),
        rank=_rank(),
        node=host_name(),
    )


def _certify(run_dir: RunDir, end: RunEnded, attempt: int) -> None:
    """Writes the end of the attempt, unless another rank has: rank 0 at once, the others if it does not.

    All write to rank 0's stream, of which alone an end counts if rank 0 has written nothing: one line each, and not at
    the same time.
    """
    first = _rank() == 0
    if supervised():  # whose stream has begun
        return _write(run_dir, end, attempt) if first else None
    until = time.monotonic() + (0.0 if first else FIRST_SECONDS)
    with contextlib.suppress(InputError):
        while not (written := last_attempt(run_dir.events) >= attempt) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        if not written:
            _write(run_dir, end, attempt)


def _write(run_dir: RunDir, event: Event, attempt: int) -> None:
    with contextlib.suppress(OSError):  # a folder that this machine does not see
        log = EventWriter(run_dir.events, f"rank{_rank()}", attempt)
        log.write(event)
        log.close()
