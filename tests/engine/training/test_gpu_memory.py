import torch

from engine.training.gpu_memory import GpuMemory

GB = 10**9


class Card:
    """A GPU of which 8 GB are free and 2 GB reserved by this process."""

    def __init__(self) -> None:
        self.peak, self.reserved, self.emptied = 5 * GB, 2 * GB, 0

    def mem_get_info(self, _: torch.device) -> tuple[int, int]:
        return 8 * GB, 12 * GB

    def memory_reserved(self, _: torch.device) -> int:
        return self.reserved

    def max_memory_reserved(self, _: torch.device) -> int:
        return self.peak

    def empty_cache(self) -> None:
        self.emptied += 1

    def reset_peak_memory_stats(self, _: torch.device) -> None:
        self.peak = self.reserved


def test_the_limit_is_what_is_free_and_ours_less_a_margin() -> None:
    assert GpuMemory(torch.device("cuda", 0), Card()).limit == 9_200_000_000


def test_a_peak_close_to_a_full_gpu_does_not_fit() -> None:
    card = Card()
    memory = GpuMemory(torch.device("cuda", 0), card)
    assert memory.fits()
    card.peak = int(9.3 * GB)
    assert not memory.fits()


def test_a_budget_that_did_not_fit_leaves_no_peak() -> None:
    card = Card()
    memory = GpuMemory(torch.device("cuda", 0), card)
    assert memory.keep() == 5 * GB
    card.peak = 11 * GB
    memory.begin()
    assert card.emptied == 1
    assert memory.fits()
    assert memory.keep() == 5 * GB


def test_without_a_gpu_everything_fits() -> None:
    memory = GpuMemory(torch.device("cpu"))
    memory.begin()
    assert memory.fits()
    assert (memory.keep(), memory.limit) == (0, 0)
