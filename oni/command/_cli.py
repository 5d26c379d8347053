"""``oni``: all commands together, and how each of them ends."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from twisted import __version__ as twisted_version

from oni import __version__
from oni.command._bench import bench
from oni.command._check_config import check_config
from oni.command._doctor import doctor
from oni.command._failures import FAILED, INTERRUPTED, WRONG_USAGE
from oni.command._history import history
from oni.command._ledger import ledger
from oni.command._pub import pub
from oni.command._show import one_line
from oni.command._sources import sources
from oni.command._sub import sub
from oni.command._token import token

__all__ = ["cli"]


#: What Python makes of bytes that are not UTF-8, in arguments and in the environment.
_UNDECODED = re.compile("[\udc80-\udcff]")


class _OneLine(click.Group):
    """Says what went wrong in one line, never with a traceback for what a user did."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Do what the command line says, and exit."""
        if sys.stdout is None:  # it was closed when we were called
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - till the end
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a locale without these characters is no error
                stream.reconfigure(errors="backslashreplace")
        raise SystemExit(self._run(args))

    def _run(self, args: Sequence[str] | None) -> int:
        try:
            code = super().main(args, prog_name="oni", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except click.UsageError as error:
            path = "oni" if error.ctx is None else error.ctx.command_path
            _complain(f"{path}: {error.format_message()} (see {path} --help)")
            return WRONG_USAGE
        except click.ClickException as error:
            _complain(f"oni: {error.format_message()}")
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            _complain("oni: interrupted")
            return INTERRUPTED
        except BrokenPipeError:  # in the last flush
            _read_no_more()
            return 0
        except OSError as error:  # of the output: what else they use, commands have looked at
            _read_no_more()
            _complain(f"oni: it cannot go on: {error.strerror or error}")
            return FAILED
        except UnicodeEncodeError as error:
            if not _UNDECODED.search(error.object):
                raise
            _complain(f"oni: {error.object}: this is not UTF-8")
            return WRONG_USAGE

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever reads its output may have enough before its end."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click itself would make a failure of it
            _read_no_more()
            return 0


def _complain(text: str) -> None:
    click.echo(one_line(" ".join(map(str.strip, text.splitlines()))), err=True)


def _read_no_more() -> None:
    """Let what is still to be written go nowhere: nobody reads it, or it cannot be written."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)


@click.group(
    cls=_OneLine,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or found wrong, 2 wrong usage, 3 no daemon or ledger "
    "answers, 75 handlers were given up, 130 interrupted.",
)
@click.version_option(
    __version__,
    message=f"Oni {__version__} (Twisted {twisted_version}, Python {platform.python_version()})",
)
def cli() -> None:
    """Speak to an Oni daemon, and look after one.

    Where the daemon is: --url or ONI_URL; its key: --key-file or ONI_API_KEY. On the daemon's own
    machine --config FILE says both.
    """


for _command in (pub, sub, history, ledger, sources, token, check_config, doctor, bench):
    cli.add_command(_command)
