"""`python -m sft_tui` is `sft-tui`."""

from sft_tui.cli import main

main()
