"""What the commands of the original guide have over those of `sft-tui`."""
