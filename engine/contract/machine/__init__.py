"""Readings of the machine: memory, processors, disks, GPUs."""
