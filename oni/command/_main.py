"""Where the command line begins, also where it has not all that it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from oni.errors import MissingExtraError

__all__ = ["main"]

_INTERRUPTED = 130
_NEEDED = ("click", "rich", "jwt")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line says, and exit.

    Args:
        arguments: The command line without the program's name; the process's own if None.
    """
    try:
        from oni.command._cli import cli
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"oni: {MissingExtraError('the command line', 'server', error)}")
    except KeyboardInterrupt:  # it had not even begun
        sys.exit(_INTERRUPTED)
    cli.main(None if arguments is None else list(arguments))
    raise SystemExit(0)
