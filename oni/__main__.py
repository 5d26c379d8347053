"""``python -m oni``: the command line."""

from __future__ import annotations

from oni.command import main

if __name__ == "__main__":
    main()
