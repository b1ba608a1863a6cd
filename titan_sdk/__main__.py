"""``python -m titan_sdk`` is the command ``titan``."""

from __future__ import annotations

from titan_sdk.cli.main import main

if __name__ == "__main__":
    main()
