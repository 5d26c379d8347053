"""From a client's commands to acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import Raw, Struct

from oni.channels import check_event
from oni.errors import BadRequestError, EventNameError
from oni.protocol import (
    Connect,
    History,
    Presence,
    PresenceCount,
    Publish,
    Refresh,
    Rpc,
    Send,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    decode_json,
)
from oni.server._acts import DEFAULT_EVENT, Act
from oni.server._settings import Settings

if TYPE_CHECKING:
    from oni.server._session import Session

__all__ = ["ActCommand", "PublishRequest", "act_of"]

#: The commands that are acts.
ActCommand: TypeAlias = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | History
    | Presence
    | PresenceCount
    | Rpc
    | Send
    | Refresh
    | SubRefresh
)

_ACTIONS: dict[type[Struct], str] = {
    Connect: "connect",
    Subscribe: "subscribe",
    Unsubscribe: "unsubscribe",
    Publish: "publish",
    History: "history",
    Presence: "presence",
    PresenceCount: "presence_stats",
    Rpc: "rpc",
    Send: "send",
    Refresh: "refresh",
    SubRefresh: "sub_refresh",
}


class PublishRequest(Struct, frozen=True):
    """What a publication is stored with, besides itself.

    Attributes:
        idempotency_key: See :meth:`oni.interfaces.IChannel.publish`.
        exclude: The id of a client that shall not hear it.
    """

    idempotency_key: str | None = None
    exclude: str = ""


class _OniPublish(Struct):
    """The data of the rpc ``oni.publish``."""

    channel: str
    data: Raw
    event: str = DEFAULT_EVENT
    tags: dict[str, str] = {}
    idempotency_key: str | None = None
    exclude_self: bool = False


def act_of(command: ActCommand, session: Session, settings: Settings) -> Act:
    """Describe what a client wants to happen.

    Raises:
        BadRequestError: A name or the data of an rpc that the server answers is wrong.
    """
    if isinstance(command, Rpc) and command.method == "oni.publish":
        return _oni_publish(command, session)
    event = ""
    if isinstance(command, Publish):
        event = _event_of(command, settings)
    elif isinstance(command, Rpc):
        event = command.method
    return Act(
        _ACTIONS[type(command)],
        channel=getattr(command, "channel", ""),
        event=event,
        data=getattr(command, "data", None),
        token=getattr(command, "token", ""),
        user=session.user,
        client=session.client,
        request=None if isinstance(command, Publish) else command,
        session=session,
    )


def _oni_publish(command: Rpc, session: Session) -> Act:
    """Publish what an rpc says, with any event's name."""
    try:
        wanted = msgspec.json.decode(command.data, type=_OniPublish)
    except msgspec.MsgspecError as error:
        raise BadRequestError(str(error), "rpc.data", command.id) from error
    _check_event(wanted.event, "rpc.data.event", command.id)
    wanted.tags.pop("event", None)
    return Act(
        "publish",
        channel=wanted.channel,
        event=wanted.event,
        data=wanted.data,
        tags=wanted.tags,
        user=session.user,
        client=session.client,
        request=PublishRequest(
            wanted.idempotency_key, session.client if wanted.exclude_self else ""
        ),
        session=session,
    )


def _event_of(command: Publish, settings: Settings) -> str:
    """Name the event as the namespace says: by a field of the data, or not at all."""
    rules = settings.rules_for(command.channel)
    if rules is None or rules.event_from is None:
        return DEFAULT_EVENT
    data = decode_json(command.data)
    event = data.get(rules.event_from) if isinstance(data, dict) else None
    if not isinstance(event, str):
        return DEFAULT_EVENT
    return _check_event(event, f"publish.data.{rules.event_from}", command.id)


def _check_event(event: str, path: str, command_id: int) -> str:
    try:
        return check_event(event)
    except EventNameError as error:
        raise BadRequestError(str(error), path, command_id) from error
