"""From a client's commands to acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from oni.channels import check_event
from oni.errors import BadRequestError, EventNameError
from oni.protocol import Connect, Publish, Subscribe, Unsubscribe, decode_json
from oni.server._acts import DEFAULT_EVENT, Act
from oni.server._settings import Settings

if TYPE_CHECKING:
    from oni.server._session import Session

__all__ = ["ActCommand", "act_of"]

#: The commands that are acts.
ActCommand: TypeAlias = Connect | Subscribe | Unsubscribe | Publish


def act_of(command: ActCommand, session: Session, settings: Settings) -> Act:
    """Describe what a client wants to happen.

    Raises:
        BadRequestError: The field that names the event holds no name.
    """
    return Act(
        type(command).__name__.lower(),
        channel=getattr(command, "channel", ""),
        event=_event_of(command, settings) if isinstance(command, Publish) else "",
        data=getattr(command, "data", None),
        token=getattr(command, "token", ""),
        user=session.user,
        client=session.client,
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
    try:
        return check_event(event)
    except EventNameError as error:
        path = f"publish.data.{rules.event_from}"
        raise BadRequestError(str(error), path, command.id) from error
