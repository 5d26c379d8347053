"""The daemon's HTTP side, for a program that waits for each answer."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from oni.command._failures import CommandError, NoAnswerError
from oni.command._show import one_line
from oni.command._target import Target

__all__ = ["Answer", "call", "request", "why_not_reached"]

_MAX_ANSWER = 256 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """What was answered to a request.

    Attributes:
        status: The HTTP status.
        headers: The headers, by name in lower case.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Told(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None


def call(
    target: Target,
    method: str,
    body: Mapping[str, Any],
    kind: Any = Any,
    hints: Mapping[int, str] = MappingProxyType({}),
) -> Any:
    """Make one call of the API.

    Args:
        target: Whose.
        method: The call.
        body: What it takes.
        kind: What the result is decoded into.
        hints: What to say besides, by the code of an error.

    Returns:
        The result.

    Raises:
        NoAnswerError: No daemon answers.
        CommandError: It refuses.
    """
    headers = {"Content-Type": "application/json"}
    if target.key is not None:
        headers["X-API-Key"] = target.key
    answer = request(target, "POST", f"/api/{method}", msgspec.json.encode(body), headers)
    _check_status(target, answer)
    try:
        told = msgspec.json.decode(answer.body, type=_Told)
        if told.error is not None:
            code, text = told.error.code, one_line(told.error.message)
            raise CommandError(f"the daemon refuses: {text} ({code}){hints.get(code, '')}")
        return msgspec.json.decode(told.result, type=kind)
    except msgspec.DecodeError as error:
        raise NoAnswerError(f"{target.address}: what answers there is no Oni") from error


def request(
    target: Target,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make one request.

    Raises:
        NoAnswerError: Nobody answers, or not in HTTP.
    """
    try:
        connection = _connect(target)
        try:
            said = {"Host": target.authority, "User-Agent": "oni", **(headers or {})}
            connection.request(method, target.path + path, body, said)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read(_MAX_ANSWER))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(why_not_reached(target, error)) from error


def why_not_reached(target: Target, error: BaseException | None) -> str:
    """Say in a line why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"{target.address} did not answer within {target.timeout:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{target.address}: its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{target.address} does not speak TLS as it should: {error.reason}"
    if isinstance(error, http.client.HTTPException):
        return f"{target.address} does not speak HTTP: {type(error).__name__}"
    number = getattr(error, "osError", None)  # Twisted's errors have texts of their own around it
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(number, int):
        reason = os.strerror(number)
    return f"{target.address} cannot be reached: {one_line(reason)}"


def _connect(target: Target) -> http.client.HTTPConnection:
    """Connect; the name in the certificate may be another one than where we connect to."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=target.timeout)
    made = socket.create_connection((target.host, target.port), target.timeout)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.secure:
            context = ssl.create_default_context()
            made = context.wrap_socket(made, server_hostname=target.name)
    except BaseException:
        made.close()
        raise
    connection.sock = made
    return connection


def _check_status(target: Target, answer: Answer) -> None:
    """Say in words what a status means that no call of the API answers with.

    Raises:
        CommandError: The daemon refuses.
        NoAnswerError: That is no daemon.
    """
    if answer.status == 401:
        if target.key is None and target.settings is not None:
            raise CommandError("these settings have no [api] key, so the API is off")
        if target.key is None:
            raise CommandError(
                "the API needs a key: --config FILE, --key-file FILE or ONI_API_KEY"
            )
        raise CommandError("the daemon does not take this key, or its API is off: see [api] key")
    if answer.status == 421:
        raise CommandError(
            f"the daemon does not answer under the name {target.name!r}: "
            "see server.allowed_hosts, or use --config"
        )
    if answer.status == 413:
        raise CommandError("that is too large for the daemon: see server.max_body_bytes")
    if answer.status == 503:
        raise NoAnswerError(f"{target.address} takes no more connections for now")
    if answer.status not in (200, 400):
        raise NoAnswerError(
            f"{target.address}: what answers there is no Oni (status {answer.status})"
        )
