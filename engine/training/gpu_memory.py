"""What a rehearsal may use of the GPU of its rank, and what it used."""

from typing import Any

import torch

# Another program may take a little, and rows of other lengths leave gaps in what the allocator holds.
USABLE = 0.92


class GpuMemory:
    """The memory of one rank's GPU, in bytes; of any other device nothing is known, and everything fits.

    `readings` has the functions of `torch.cuda` that are used here.
    """

    def __init__(self, device: torch.device, readings: Any = torch.cuda) -> None:
        self._device, self._readings = device, readings
        self.known = device.type == "cuda"
        self.limit = 0
        self._most = 0
        if self.known:
            # What this process has reserved already is its own to use.
            free, _ = readings.mem_get_info(device)
            self.limit = int((free + readings.memory_reserved(device)) * USABLE)

    def begin(self) -> None:
        """Forgets the peak and returns unused memory, so that what follows is measured by itself."""
        if self.known:
            self._readings.empty_cache()
            self._readings.reset_peak_memory_stats(self._device)

    def keep(self) -> int:
        """The most that was held in what has been kept, with what was held since `begin`; 0 without a GPU."""
        if self.known:
            self._most = max(self._most, int(self._readings.max_memory_reserved(self._device)))
        return self._most

    def fits(self) -> bool:
        """Whether what was held since `begin` is within the limit."""
        return not self.known or int(self._readings.max_memory_reserved(self._device)) <= self.limit
