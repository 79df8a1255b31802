"""`python -m quantface_core`: the `quantface` command, wherever its script was installed."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
