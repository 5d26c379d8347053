"""``oni token``: make a token with which a client says who it is."""

from __future__ import annotations

import os
from typing import Any

import click
import msgspec

from oni.command._failures import CommandError
from oni.command._options import DURATION, read_secret, read_settings
from oni.errors import MissingExtraError
from oni.server import Settings
from oni.server.auth import make_token

__all__ = ["claims_of", "secret_of", "token"]

_FILE = click.Path(dir_okay=False)


@click.command(short_help="Make a token for a client.")
@click.option("--user", "-u", required=True, metavar="NAME", help="Who the token is for.")
@click.option(
    "--channel",
    metavar="CHANNEL",
    help="Make a subscription token for this channel. Without it, it is a connection token.",
)
@click.option(
    "--ttl", type=DURATION, default=3600.0, metavar="TIME", help="Its life.  [default: 1h]"
)
@click.option("--info", metavar="JSON", help="What others may know about this client.")
@click.option(
    "--subscribe",
    multiple=True,
    metavar="CHANNEL",
    help="A channel to which the daemon subscribes the client; may be repeated.",
)
@click.option("--config", "-c", type=_FILE, metavar="FILE", help="The daemon's settings file.")
@click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="A file that holds the secret of HS256 instead; - for standard input. "
    "The environment may hold it, too: ONI_HMAC_SECRET.",
)
@click.option(
    "--private-key", type=_FILE, metavar="FILE", help="A private key, PEM, for another algorithm."
)
@click.option(
    "--algorithm",
    type=click.Choice(["RS256", "ES256"]),
    help="The algorithm of the private key.",
)
@click.option("--kid", metavar="NAME", help="The name of the key, where there are several.")
def token(
    user: str,
    channel: str | None,
    ttl: float,
    info: str | None,
    subscribe: tuple[str, ...],
    config: str | None,
    secret_file: str | None,
    private_key: str | None,
    algorithm: str | None,
    kid: str | None,
) -> None:
    """Make a token, and print it.

    A token lets everyone who has it connect as the user that it names, until it expires: keep it
    as you keep a password. Issuer and audience are those of the settings file.

    \b
      oni token --user bob --ttl 15m --config oni.toml
    """  # noqa: D301 - click reads the \b
    if ttl <= 0:
        raise click.UsageError("--ttl: expected a time above 0")
    if (private_key is None) is not (algorithm is None):
        raise click.UsageError("--private-key and --algorithm belong together")
    if channel is not None and subscribe:
        raise click.UsageError("--subscribe is for connection tokens, which have no --channel")
    settings = None if config is None else read_settings(config)
    key = _key(settings, config, secret_file) if private_key is None else read_secret(private_key)
    made = _make(
        settings,
        key,
        user=user,
        channel=channel,
        ttl=ttl,
        info=_json(info),
        channels=subscribe,
        algorithm=algorithm or "HS256",
        kid=kid,
    )
    click.echo(made)


def _make(settings: Settings | None, key: str, **said: Any) -> str:
    """Make it.

    Raises:
        CommandError: The key is none.
    """
    if settings is not None:
        said |= claims_of(settings)
    try:
        return make_token(key, **said)
    except (ValueError, MissingExtraError) as error:
        raise CommandError(f"no token can be made: {error}") from error


def _key(settings: Settings | None, config: str | None, secret_file: str | None) -> str:
    if secret_file is not None:
        return read_secret(secret_file)
    if settings is not None:
        found = secret_of(settings)
        if found is None:
            raise CommandError(f"{config}: it has no auth.hmac_secret to make tokens with")
        return found
    found = os.environ.get("ONI_HMAC_SECRET")
    if not found:
        raise click.UsageError(
            "say what to sign with: --config, --secret-file, --private-key or ONI_HMAC_SECRET"
        )
    return found


def secret_of(settings: Settings) -> str | None:
    """Give the secret that the settings name, None where they have none.

    Raises:
        CommandError: Its file cannot be read.
    """
    auth = settings.auth
    if auth.hmac_secret_file is not None:
        return read_secret(os.path.join(settings.folder or "", auth.hmac_secret_file))
    return auth.hmac_secret


def claims_of(settings: Settings) -> dict[str, str | None]:
    """Give the claims that every token for a daemon with these settings must have."""
    return {"issuer": settings.auth.issuer, "audience": settings.auth.audience}


def _json(text: str | None) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise CommandError(f"--info is no JSON: {error}") from error
