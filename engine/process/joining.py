"""A rank joins its run; what keeps it from that is certified in the run's folder, as every other end is."""

import contextlib
import os
import sys
import time
import traceback

from engine.contract import certificate
from engine.contract.events import Event, RankFailed, RunEnded
from engine.contract.harmless import harmless
from engine.contract.messages import BusyError, InputError, for_terminal
from engine.contract.processes import host_name
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, end_of, newest, next_attempt
from engine.process import places
from engine.process.attempt import leave, words_of
from engine.process.device_errors import connection_broke, kind_of
from engine.process.heartbeat import attempt_from_environment, supervised
from engine.process.job import StopAskedError
from engine.process.waiting import Waiting, waits
from engine.process.world import World

FIRST_SECONDS = 3.0  # for which a rank lets rank 0 say why none of them could join
LOOK_SECONDS = 0.1
UNNAMED = "-"


def joined(run_dir: RunDir) -> World:
    """The world of a run; if this rank cannot join it, says why and ends this process."""
    record: RunRecord | None = None
    attempt = attempt_from_environment()
    waiting = Waiting(run_dir)
    with contextlib.suppress(InputError):  # the job reports it
        record = waiting.record
        attempt = attempt or _attempt(run_dir)
    try:
        return _met(run_dir, record, waiting)
    except StopAskedError as stop:  # before all had come
        print(for_terminal(stop.message), file=sys.stderr)
        reason = "paused" if run_dir.stop_requested() == "pause" else "stopped"
        end = RunEnded(reason, 0, stop.message)
        if not waiting.ended(end) and waiting.is_main:
            _certify(run_dir, end, attempt, waiting)
        leave(0)
    except InputError as error:
        print(for_terminal(error.message), file=sys.stderr)
        busy = isinstance(error, BusyError)
        end = RunEnded("busy" if busy else "refused", error.exit_code, error.message)
        if not waiting.ended(end) and not busy:  # or else other ranks write to the stream
            _certify(run_dir, end, attempt, waiting)
        leave(error.exit_code)
    except Exception as error:
        print(harmless(traceback.format_exc()), file=sys.stderr)
        failure = _failure(error)
        if supervised():
            _write(run_dir, failure, attempt)
        elif record is not None:
            log = run_dir.trainer_output if run_dir.trainer_output.exists() else run_dir.events
            end = certificate.failed(record, failure.rank, failure, str(log))
            print(for_terminal(end.message), file=sys.stderr)
            if not waiting.ended(end):
                _certify(run_dir, end, attempt, waiting)
        leave(1)


def _met(run_dir: RunDir, record: RunRecord | None, waiting: Waiting) -> World:
    """The world, which alone is at work in the run's folders; raises InputError, and what its making raises."""
    if record is None:
        return World(report=waiting.report)
    error = waiting.in_use(counts_main=waiting.is_main)
    if error is not None:
        raise error
    name = record.id or record.run or UNNAMED  # not as a rank that finds no record
    world = World(record.launch, name, str(run_dir.path.absolute()), waiting.report)
    if not supervised():
        world.together(waiting.begin, chosen=world.is_main)
    world.attempt = waiting.attempt
    waiting.over()
    return world


def _attempt(run_dir: RunDir) -> int:
    """The number of the attempt that begins now, or that rank 0 has begun because this rank is late."""
    if _rank():
        number, found = newest(end_of(run_dir.events))
        if waits(found):
            return number
    return next_attempt(run_dir.events)


def _rank() -> int:
    return places.rank_of(os.environ)  # `World` has not written it under torch's name yet


def _failure(error: Exception) -> RankFailed:
    """The error that is being handled, as this rank's end."""
    return RankFailed(
        reason=kind_of(error),
        phase="starting",
        step=0,
        why=words_of(error),
        traceback=traceback.format_exc(limit=-8),
        waiting=connection_broke(error),
        rank=_rank(),
        node=host_name(),
    )


def _certify(run_dir: RunDir, end: RunEnded, attempt: int, waiting: Waiting) -> None:
    """Writes the end of the attempt, unless another rank has: rank 0 at once, the others if it does not.

    All write to rank 0's stream, of which alone an end counts if rank 0 has written nothing: one line each, and not at
    the same time. A stream that others write, of another launch or rank 0 of this one, is left alone.
    """
    first = _rank() == 0
    if supervised():  # whose stream has begun
        return _write(run_dir, end, attempt) if first else None
    until = time.monotonic() + (0.0 if first else FIRST_SECONDS)
    with contextlib.suppress(InputError):
        while not (written := _has_end(run_dir, attempt)) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        if not written and waiting.in_use(counts_main=True) is None:
            _write(run_dir, end, attempt)


def _has_end(run_dir: RunDir, attempt: int) -> bool:
    """Whether the attempt has ended, or got further than to wait for its ranks; raises InputError."""
    number, found = newest(end_of(run_dir.events))
    return number > attempt or (number == attempt and not waits(found))


def _write(run_dir: RunDir, event: Event, attempt: int) -> None:
    with contextlib.suppress(OSError):  # a folder that this machine does not see
        log = EventWriter(run_dir.events, f"rank{_rank()}", attempt)
        log.write(event)
        log.close()
