"""What listeners and subscribers are told of resources.

A resource is what an application serves under a name: ``article``. Whoever handles a request says
what becomes of its records, and each transaction comes to one event for each resource and action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

__all__ = [
    "ACTIONS",
    "AfterResourceChanged",
    "AfterResourceRead",
    "ResourceAction",
    "ResourceChanged",
    "ResourceEvent",
    "ResourceRead",
]

ResourceAction = Literal["create", "update", "delete", "read"]

ACTIONS: tuple[ResourceAction, ...] = ("create", "update", "delete", "read")


class ResourceEvent(Struct, frozen=True, eq=False, kw_only=True):
    """What has become of a resource's records in one transaction, by one action.

    Attributes:
        payload: ``timestamp`` (milliseconds since 1970, an integer), ``action``, ``uri``,
            ``user_id``, ``resource_name``, ``<resource_name>_id`` and what the URL matched, by
            name. Of several records it tells of the first. ``user_id`` is who did it, also where
            the resource is called ``user``: its records' ids are in ``impacted``.
        impacted_records: A mapping for each record: ``"new"``, what it is afterwards, and
            ``"old"``, what it was; a new record has no ``"old"``, and one that was deleted no
            ``"new"``. One that was read has only ``"new"``.
        impacted: The same with each record's ``"id"`` and ``"uri"``.
        key: Names the event. It is the same before the commit and after it, and each time that it
            is brought.
        request: Who handles the request may see it here; None where that is over.
    """

    payload: Mapping[str, Any]
    impacted_records: Sequence[Mapping[str, Any]] = ()
    impacted: Sequence[Mapping[str, Any]] = ()
    key: str = ""
    request: Any = None

    @property
    def action(self) -> str:
        """What happened: ``"create"``, ``"update"``, ``"delete"`` or ``"read"``."""
        return str(self.payload["action"])

    @property
    def resource_name(self) -> str:
        """The resource's name."""
        return str(self.payload["resource_name"])


class ResourceChanged(ResourceEvent, frozen=True, eq=False, kw_only=True):
    """Records are about to be changed: the transaction is not committed yet.

    Whoever raises vetoes it.
    """


class AfterResourceChanged(ResourceEvent, frozen=True, eq=False, kw_only=True):
    """Records were changed: the transaction was committed."""


class ResourceRead(ResourceEvent, frozen=True, eq=False, kw_only=True):
    """Records are about to be given to somebody. Whoever raises keeps them back."""


class AfterResourceRead(ResourceEvent, frozen=True, eq=False, kw_only=True):
    """Records were given to somebody."""
