"""The C library's heap: which freed blocks it returns to the system."""

import ctypes

# From glibc's malloc.h; see mallopt(3).
_M_MMAP_THRESHOLD = -3


def return_blocks_of(size: int) -> bool:
    """Has blocks of at least `size` bytes returned as soon as they are freed; False if the library has no such choice.

    Each of them then costs faults of its pages. Other blocks stay with the process unless they are the heap's last.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, size) == 1
