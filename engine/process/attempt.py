"""One attempt of a run on this rank, from its stream to the report of how it ended."""

import contextlib
import dataclasses
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import transformers

from engine.contract import certificate, events
from engine.contract.harmless import harmless
from engine.contract.messages import BusyError, InputError, Message, for_terminal
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, Listener, next_attempt
from engine.contract.untrusted import one_line
from engine.process.device_errors import connection_broke, gpu_of, kind_of
from engine.process.heartbeat import (
    HeartbeatThread,
    attempt_from_environment,
    parent_to_watch,
    supervised,
    supervisor_died,
    write_stacks_on_request,
)
from engine.process.job import (
    DivergedError,
    FolderLostError,
    Job,
    StopAskedError,
    TerminatedError,
    UnpublishedError,
    peak_memory,
)
from engine.process.peers import STOPPED, PeerWatch
from engine.process.shared_folder import require_shared
from engine.process.world import World


def execute(world: World, run_dir: RunDir, work: Callable[[Job], Message], listener: Listener | None = None) -> int:
    """Runs `work` as one attempt of the run in `run_dir` and reports how it ended; returns the exit code.

    `work` returns the message about its success. `listener` is called with every event of this rank.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        require_shared(world, run_dir.path, "logs")
    except InputError as error:
        return _refused_at_once(world, run_dir, error, listener)
    attempt = attempt_from_environment() or world.from_main(world.attempt or next_attempt(run_dir.events))
    log = EventWriter(stream_of(world, run_dir), f"rank{world.rank}", attempt, listener)
    pulse = HeartbeatThread(world.rank_status, log, parent_to_watch())
    pulse.start()
    peers, code = PeerWatch.of(world, run_dir, log), 1
    try:
        code = _concluded(_opened(run_dir, world, log, peers), work)
    except InputError as error:
        if world.is_main:
            log.write(events.RunEnded("refused", error.exit_code, error.message))
        code = error.exit_code
    finally:
        if peers is not None:
            peers.stop(in_order=code == 0)
        pulse.stop()
        log.close()
        if supervisor_died():
            world.remove_rendezvous_file()
    return code


def stream_of(world: World, run_dir: RunDir) -> Path:
    """The stream that this rank appends to: over a network file system, appends of two machines may mix."""
    return run_dir.events if world.is_main or len(world.machines) < 2 else run_dir.events_of(world.rank)


def _refused_at_once(world: World, run_dir: RunDir, error: InputError, listener: Listener | None) -> int:
    """Reports on rank 0's machine that the run's folder is not shared; returns the exit code."""
    if world.is_main and run_dir.record.is_file():
        log = EventWriter(run_dir.events, "rank0", world.attempt or next_attempt(run_dir.events), listener)
        log.write(events.RunEnded("refused", error.exit_code, error.message))
        log.close()
    print(for_terminal(error.message), file=sys.stderr)
    return error.exit_code


def _opened(run_dir: RunDir, world: World, log: EventWriter, peers: PeerWatch | None) -> Job:
    record = run_dir.read_record()
    world.check(record.processes, record.elsewhere)
    write_stacks_on_request(run_dir.stacks(world.rank))
    job = Job(run_dir, record, world, log, peers)
    if peers is not None:
        peers.about(record, lambda: job.step)
    return job


def _concluded(job: Job, work: Callable[[Job], Message]) -> int:
    try:
        message = work(job)
        code = job.end("finished", 0, message, _peaks(job.world))
        job.world.end()
        return code
    except StopAskedError as stop:
        # In a step all ranks stop together; in other phases each stops by itself, and none waits for the others.
        together = job.phase_name == "training" or job.world.size == 1
        if not together and _stopped_by_a_loss(job, stop):
            return 1
        job.end(job.stop_asked.reason(), 0, stop.message, _peaks(job.world) if together else {})
        return 0 if together or supervised() or _leaves_nobody_waiting(job) else 1
    except TerminatedError as error:
        message = Message.of("ended_terminated", phase=job.phase_name, **job.options())
        job.end("terminated", 1, message, {})
        if job.peers is not None:
            job.peers.report(_stop(job, error, message.what()))
        return 1
    except DivergedError as error:
        return job.end("diverged", 1, error.message, error.evidence, error.apply)
    except (UnpublishedError, FolderLostError) as error:
        return job.end("failed", 1, error.message, {})
    except InputError as error:
        if not job.world.is_main:
            # Rank 0 prints it too, unless only this rank ran into it.
            print(for_terminal(error.message), file=sys.stderr)
            _report(job, _failure(job, error, str(error)))
        return job.end("busy" if isinstance(error, BusyError) else "refused", error.exit_code, error.message, {})
    except Exception as error:
        return _left_alone(job, error) if _is_left(job, error) else _failed(job, error)


def _is_left(job: Job, error: Exception) -> bool:
    """Whether a connection broke while there is a reason for all ranks to stop.

    A signal proves nothing: the launcher also sends one when a rank has died.
    """
    broken = isinstance(error, RuntimeError) and kind_of(error) == "failed" and job.world.size > 1
    return broken and (job.rank_status.parent_died or job.stop_asked.by_file())


def _left_alone(job: Job, error: Exception) -> int:
    """Another rank stopped first and closed the connection, unless its machine is gone, and the launcher with it."""
    watched = None if job.stop_asked.by_file() else job.peers
    if watched is not None and watched.certify(_failure(job, error, words_of(error)), math.inf):
        return 1
    reason, begun = job.stop_asked.reason(), job.step > 0
    return job.end(reason, 0, certificate.stopped_early(job.record, job.phase_name, reason, begun=begun), {})


def _leaves_nobody_waiting(job: Job) -> bool:
    """Whether the launcher need not end the ranks that wait for this one, which a person stopped outside a step.

    They were stopped too, and see that the connection to this rank breaks; on GPUs NCCL does not show them that.
    """
    return job.stop_asked.by_file() and job.world.device.type == "cpu"


def _stopped_by_a_loss(job: Job, stop: StopAskedError) -> bool:
    """Whether this rank was stopped alone, or lost its launcher, because a machine is gone, which is now certified."""
    if job.peers is None:
        return False
    end = _stop(job, stop, stop.message.what())
    if job.stop_asked.by_file():  # a person asked
        job.peers.report(end)
        return False
    return job.peers.stopped(end, job.stop_asked.since())


def words_of(error: Exception) -> str:
    """An error on one line, with its type."""
    return f"{type(error).__name__}: {one_line(error, 600)}"


def _failed(job: Job, error: Exception) -> int:
    why = words_of(error)
    if job.peers is not None:
        job.peers.end_soon(why)  # what is written from here on may go to a folder of a machine that is gone
    with contextlib.suppress(OSError):  # the disk may be full
        print(harmless(traceback.format_exc()), file=sys.stderr)
    failure = _failure(job, error, why)
    job.log.write(failure)
    if supervised() or _report(job, failure):  # a supervisor sees how every rank ended, and which one was at fault
        return 1
    output = job.run_dir.trainer_output
    log = str(output) if output.exists() else str(job.run_dir.events)
    job.emit(certificate.failed(job.record, job.world.rank, failure, log))
    return 1


def _failure(job: Job, error: BaseException, why: str) -> events.RankFailed:
    """The error that is being handled, as this rank's end."""
    return events.RankFailed(
        reason=kind_of(error),
        phase=job.phase_name,
        step=job.step,
        why=why,
        traceback=traceback.format_exc(limit=-8),
        waiting=job.rank_status.gave_up_waiting or connection_broke(error),
        gpu=gpu_of(error, job.world.device),
        rank=job.world.rank,
        node=job.world.nodes[job.world.rank] if job.peers is not None else "",
    )


def _stop(job: Job, error: BaseException, why: str) -> events.RankFailed:
    """The stop that is being handled, as this rank's end."""
    return dataclasses.replace(_failure(job, error, why), reason=STOPPED)


def _report(job: Job, failure: events.RankFailed) -> bool:
    """Whether an error came of another rank's end, now certified; else the others learn of it."""
    if job.peers is None:
        return False
    if failure.waiting and job.peers.certify(failure):
        return True
    job.peers.report(failure)
    return False


def leave(code: int) -> NoReturn:
    """Ends this process immediately with `code`: collectives that others left must not block it at exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # full or closed: the work is done anyway
            stream.flush()
    os._exit(code)


def _peaks(world: World) -> dict[str, str]:
    """The highest resident memory of every rank, as text in bytes."""
    peaks = world.gather([peak_memory()])
    return {f"peak_memory_rank{rank}": str(peak) for rank, peak in enumerate(peaks)}
