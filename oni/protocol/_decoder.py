"""From the bytes of a frame to typed commands."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct
from msgspec.structs import astuple

from oni.errors import BadRequestError
from oni.protocol._commands import Command, NotFound, Pong
from oni.protocol._envelope import NULL, Envelope

__all__ = ["MAX_DEPTH", "decode_command", "decode_json", "split_frame"]

#: How deep objects and arrays of one command may nest.
MAX_DEPTH = 32

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_WHERE = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")


class _Id(Struct):
    """Finds the id of a command of which something else is wrong."""

    id: Annotated[int, Meta(ge=1, le=2**32 - 1)]


_METHODS = Envelope.__struct_fields__[1:]
_envelopes = msgspec.json.Decoder(Envelope)
_ids = msgspec.json.Decoder(_Id)
_anything = msgspec.json.Decoder()

# What msgspec raises on bytes that are not what they should be. RecursionError belongs to it only
# in principle: nesting is bounded before.
_NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)


def split_frame(frame: bytes | str) -> list[bytes]:
    """Cut a frame into its commands, which line feeds separate.

    Args:
        frame: The payload of a text or binary frame.

    Returns:
        The bytes of each command, at least one.

    Raises:
        BadRequestError: The frame has no command in it, or is a string that UTF-8 cannot encode.
    """
    if isinstance(frame, str):
        try:
            frame = frame.encode()
        except UnicodeEncodeError as error:
            raise BadRequestError("a lone surrogate cannot be sent") from error
    lines = [line for line in frame.split(b"\n") if line.strip()]
    if not lines:
        raise BadRequestError("the frame is empty")
    return lines


def decode_command(line: bytes) -> Command:
    """Decode one command.

    Unknown members are ignored; wrong ones are refused with their path.

    Args:
        line: One of the pieces that :func:`split_frame` gives.

    Returns:
        The command. A method that this server does not offer is a :class:`NotAvailable`, none at
        all a :class:`NotFound`.

    Raises:
        BadRequestError: It is not JSON, or a member is wrong. The error has the command's id where
            that could be read, so that it can be answered; else there is nobody to answer.
    """
    _check_depth(line)
    try:
        envelope = _envelopes.decode(line)
    except _NOT_JSON as error:
        raise _bad_request(error, _id_of(line)) from error
    return _command_of(envelope, line)


def decode_json(raw: bytes | Raw, path: str = "data", command_id: int = 0) -> Any:
    """Decode JSON whose nesting is bounded: never a RecursionError, no NaN, no broken UTF-8.

    Args:
        raw: The bytes.
        path: What they are, for the error.
        command_id: The command they belong to, for the error.

    Raises:
        BadRequestError: They are not JSON, or nest deeper than :data:`MAX_DEPTH`.
    """
    _check_depth(bytes(raw), path, command_id)
    try:
        return _anything.decode(raw)
    except _NOT_JSON as error:
        raise BadRequestError(_text_of(error), path, command_id) from error


def _command_of(envelope: Envelope, line: bytes) -> Command:
    number, *said = astuple(envelope)
    there = [fields for fields in said if fields is not UNSET]
    if len(there) > 1:
        named = [name for name, fields in zip(_METHODS, said, strict=True) if fields is not UNSET]
        raise BadRequestError(f"one method per command, not {' and '.join(named)}", "", number)
    if not there:
        if number:
            return NotFound(number)
        if decode_json(line, "", number):
            raise BadRequestError("a command needs an id above 0", "id")
        return Pong()
    fields = there[0]
    method = _METHODS[said.index(fields)]
    data = getattr(fields, "data", NULL)
    if data is not NULL:  # the command has some
        decode_json(data, f"{method}.data", number)
    if not number and method != "send":
        raise BadRequestError("a command needs an id above 0", "id")
    command: Command = fields.command(number)
    return command


def _check_depth(line: bytes, path: str = "", command_id: int = 0) -> None:
    """Refuse deep nesting before a recursive decoder sees it."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", line)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BadRequestError(f"nested deeper than {MAX_DEPTH}", path, command_id)


def _id_of(line: bytes) -> int:
    try:
        return _ids.decode(line).id
    except _NOT_JSON:
        return 0


def _text_of(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error)


def _bad_request(error: BaseException, command_id: int) -> BadRequestError:
    """Say which field is wrong, in the words of the decoder."""
    text = _text_of(error)
    where = _WHERE.match(text)
    path = ""
    if where is not None:
        text, path = where["what"], where["path"]
    missing = _MISSING.match(text)
    if missing is not None:
        text, path = "missing", ".".join(filter(None, (path, missing["name"])))
    return BadRequestError(text, path, command_id)
