"""`python -m sft_tui` is `sft-tui`."""

import os
import sys

# `-m` puts the working folder first on `sys.path`, and people may run us inside a folder that they downloaded.
if not sys.flags.safe_path and os.path.realpath(sys.path[0]) != os.path.realpath(f"{__file__}/../.."):
    del sys.path[0]

from sft_tui.cli.main import main

main()
