"""The GPU of a process that trains: waiting for it, and what was taken of it."""

import argparse
import sys

import torch

KINDS = ("cpu", "cuda")


def add_option(options: argparse.ArgumentParser) -> None:
    """Adds the option that names the device to train on."""
    options.add_argument("--device", choices=KINDS, default="cpu")


def require(kind: str) -> None:
    """Ends the process, with the reason, if torch cannot use such a device: its trainer would silently take the CPU."""
    if kind == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} of {sys.executable} finds no GPU")


def finish() -> None:
    """Waits until the GPU has done what it was given, if this process uses one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_mb() -> float:
    """The most memory that torch took of the GPU so far, in MB; 0 without one. Neither driver nor libraries count."""
    return torch.cuda.max_memory_reserved() / 1e6 if torch.cuda.is_initialized() else 0.0
