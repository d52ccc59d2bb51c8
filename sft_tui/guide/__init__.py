"""What only the commands of the original guide need, in addition to those of `sft-tui`."""
