"""A tokenizer that never ends is given up by its name, and does not keep the process from ending."""

import subprocess
import sys
import threading
from functools import partial

import pytest

from engine.contract.messages import InputError
from engine.data import bounded
from engine.data.bounded import Worker, done_in_time, in_time, one_ahead


@pytest.fixture
def never() -> threading.Event:
    """What stuck work waits for."""
    return threading.Event()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a thousandth of a second, 3 and one for each 10 characters."""
    monkeypatch.setattr(bounded, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(bounded, "POLLS", 3)
    monkeypatch.setattr(bounded, "CHARACTERS_A_POLL", 10)


def test_work_that_never_ends_is_given_up(never: threading.Event) -> None:
    waits: list[int] = []
    worker = Worker("stuck")
    with pytest.raises(InputError) as refused:
        in_time(worker.submit(never.wait), "some/tokenizer", 20, lambda: waits.append(1))
    never.set()
    assert len(waits) == 3 + 2
    assert refused.value.message.code == "tokenizer_bad"
    for lang in ("en", "zh"):
        assert "some/tokenizer" in refused.value.message.what(lang)
        assert "--tokenizer" in refused.value.message.fix(lang)


def test_the_caller_can_give_up_earlier(never: threading.Event) -> None:
    def asked_to_stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        in_time(Worker("stuck").submit(never.wait), "some/tokenizer", 0, asked_to_stop)
    never.set()


def test_work_is_done_in_order_by_one_thread() -> None:
    worker = Worker("orderly")
    done = list[int]()
    threads = [worker.submit(threading.get_ident) for _ in range(3)]
    found = [worker.submit(partial(done.append, number)) for number in range(20)]
    worker.close()
    for future in found:
        future.result(60)
    assert done == list(range(20))
    assert len({thread.result(60) for thread in threads}) == 1


def test_an_error_in_the_work_is_the_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "POLL_SECONDS", 10.0)
    with pytest.raises(InputError, match=r"some/tokenizer.*too odd"):
        done_in_time(lambda: int("too odd"), "some/tokenizer", 0)


def test_a_process_ends_though_its_work_never_does() -> None:
    program = "import threading; from engine.data.bounded import Worker; Worker('w').submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_the_next_item_is_started_before_one_is_finished() -> None:
    said = list[str]()

    def start(item: int) -> int:
        said.append(f"start {item}")
        return item * 2

    for item, result in one_ahead(range(3), start):
        said.append(f"end {item}: {result}")
    assert said == ["start 0", "start 1", "end 0: 0", "start 2", "end 1: 2", "end 2: 4"]
    assert list(one_ahead([], str)) == []
