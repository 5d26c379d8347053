"""With which token a command opens a websocket."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from oni.command._failures import CommandError
from oni.command._options import read_secret
from oni.command._target import Target
from oni.command._token import claims_of, secret_of
from oni.server.auth import make_token

__all__ = ["token_options"]

_F = TypeVar("_F", bound=Callable[..., Any])
_LIFE = 300.0  # seconds that a token lives which is made for a connection


def token_options(command: _F) -> _F:
    """Give a command the options that say who it is; it is called with ``token``.

    That is a function which gives a token for each new connection, or None for nobody.
    """

    @click.option(
        "--user",
        "-u",
        metavar="NAME",
        help="Connect as this user, with a token that the settings file's secret makes.",
    )
    @click.option(
        "--token-file",
        type=click.Path(dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="Connect with the token in this file; - for standard input.",
    )
    @click.option(
        "--token",
        envvar="ONI_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
        help="Connect with this token. In the environment nobody else sees it.",
    )
    @functools.wraps(command)
    def with_token(
        *arguments: Any,
        user: str | None,
        token_file: str | None,
        token: str | None,
        target: Target,
        **options: Any,
    ) -> Any:
        source = _source(target, user, token_file, token)
        return command(*arguments, target=target, token=source, **options)

    return with_token  # type: ignore[return-value]


def _source(
    target: Target, user: str | None, token_file: str | None, token: str | None
) -> Callable[[], str] | None:
    if user is not None:
        return _made_for(target, user)
    found = token if token_file is None else read_secret(token_file)
    return None if found is None else lambda: found


def _made_for(target: Target, user: str) -> Callable[[], str]:
    """Make a token anew each time, so that it never has expired."""
    if target.settings is None:
        raise click.UsageError("--user needs --config, which has the secret for a token")
    settings = target.settings
    secret = secret_of(settings)
    if secret is None:
        raise CommandError("--user: the settings have no auth.hmac_secret to make a token with")
    claims: dict[str, Any] = claims_of(settings)
    return lambda: make_token(secret, user, ttl=_LIFE, **claims)
