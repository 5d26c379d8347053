"""Options and kinds of arguments that several commands have."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click
from click.core import ParameterSource

from oni.command._failures import CommandError
from oni.command._target import DEFAULT_URL, Target, target_of_settings, target_of_url
from oni.errors import SettingsError
from oni.server import Settings, load_settings
from oni.values import Position

__all__ = [
    "DURATION",
    "POSITION",
    "daemon_options",
    "json_option",
    "read_secret",
    "read_settings",
    "settings_argument",
]

if TYPE_CHECKING:
    _ParamType: TypeAlias = click.ParamType[Any]
else:  # it takes a parameter only in newer versions of click
    _ParamType = click.ParamType

_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST = 86400.0  # seconds to wait for an answer
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")


class _Duration(_ParamType):
    """A time span: ``30``, ``30s``, ``5m``, ``2h``, ``1d``."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Give the seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no time span like 30s, 5m, 2h or 1d", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


class _Position(_ParamType):
    """A place in a stream: ``EPOCH:OFFSET``."""

    name = "position"

    def convert(self, value: Any, param: Any, ctx: Any) -> Position:
        """Give the position."""
        if isinstance(value, Position):
            return value
        epoch, colon, offset = value.rpartition(":")
        if not (colon and epoch and offset.isascii() and offset.isdigit() and len(offset) < 19):
            self.fail(f"{value!r} is no position like EPOCH:OFFSET", param, ctx)
        return Position(epoch, int(offset))


DURATION = _Duration()
POSITION = _Position()


def read_settings(path: str) -> Settings:
    """Read a settings file.

    Raises:
        CommandError: It is wrong.
    """
    try:
        return load_settings(path)
    except SettingsError as error:
        first = error.problems[0].removeprefix(f"{path}: ")
        more = len(error.problems) - 1
        rest = f" (and {more} more: oni check-config {path})" if more else ""
        raise CommandError(f"{path}: {first}{rest}") from error


def read_secret(path: str) -> str:
    """Read a secret: all of the file without the white space around it.

    Raises:
        CommandError: It cannot be read, or is empty.
    """
    try:
        with click.open_file(path, encoding="utf-8") as file:
            secret = str(file.read(65536)).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"{path}: {reason}") from error
    if not secret:
        raise CommandError(f"{path}: it is empty")
    return secret


_FILE = click.Path(dir_okay=False)
_FILE_OR_INPUT = click.Path(dir_okay=False, allow_dash=True)

settings_argument = click.argument("file", type=_FILE, metavar="FILE")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line, for programs."
)


def daemon_options(command: _F) -> _F:
    """Give a command the options that name a daemon; it is called with a ``target``."""

    @click.option(
        "--url",
        envvar="ONI_URL",
        show_envvar=True,
        metavar="URL",
        help=f"Where the daemon is.  [default: {DEFAULT_URL}]",
    )
    @click.option(
        "--config",
        "-c",
        type=_FILE,
        metavar="FILE",
        help="The daemon's settings file: it has the address and the key.",
    )
    @click.option(
        "--key-file",
        type=_FILE_OR_INPUT,
        metavar="FILE",
        help="A file that holds the API's key; - for standard input.",
    )
    @click.option(
        "--key",
        envvar="ONI_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="The API's key. On a command line other people on this machine can see it; in the "
        "environment, in a key file or in the settings file they cannot.",
    )
    @click.option(
        "--timeout",
        type=DURATION,
        default=10.0,
        metavar="TIME",
        help="How long to wait for an answer.  [default: 10s]",
    )
    @click.pass_context
    @functools.wraps(command)
    def with_target(ctx: click.Context, /, *arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in ("url", "config", "key_file", "key")}
        timeout = options.pop("timeout")
        if not 0 < timeout <= _LONGEST:
            raise click.UsageError("--timeout: expected a time above 0, and at most a day")
        target = replace(_target(ctx, **given), timeout=timeout)
        return ctx.invoke(command, *arguments, target=target, **options)

    return with_target  # type: ignore[return-value]


def _target(
    ctx: click.Context,
    url: str | None,
    config: str | None,
    key_file: str | None,
    key: str | None,
) -> Target:
    """Choose: what is said on the command line, then the settings file, then the environment."""
    settings = None if config is None else read_settings(config)
    if url is not None and (settings is None or _is_said(ctx, "url")):
        target = target_of_url(url)
    elif settings is not None and config is not None:
        target = target_of_settings(settings, config)
    else:
        target = target_of_url(DEFAULT_URL)
    chosen = key
    if not (key is not None and _is_said(ctx, "key")):
        if key_file is not None:
            chosen = read_secret(key_file)
        elif settings is not None and settings.api.key is not None:
            chosen = settings.api.key
    if chosen is not None and not (chosen.isascii() and chosen.isprintable()):
        raise CommandError("the key has characters that no key has")
    return replace(target, key=chosen, settings=settings)


def _is_said(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
