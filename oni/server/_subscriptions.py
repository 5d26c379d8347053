"""A session's subscriptions: what it hears, and what others know of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.errors import AlreadySubscribedError
from oni.interfaces import IChannel, IChannels, IEntry, ISubscription
from oni.protocol import ErrorCode, SubscribeResult, TagsFilter, publication_result
from oni.server._acts import refusal
from oni.server._expiries import Expiries, Expiry
from oni.server._grants import EXPIRY_GRACE, Grant
from oni.server._recent import RecentChannels
from oni.server._settings import Settings
from oni.values import ClientInfo, Position

if TYPE_CHECKING:
    from oni.server._session import Session

__all__ = ["Held", "Subscriptions", "Wish", "wants_tags"]

_log = Logger()


class Wish(Struct, frozen=True, kw_only=True):
    """How a session wants to hear a channel.

    Attributes:
        grant: What the application gives with it.
        since: Where the client stands, None where it does not want what it missed.
        filter: Which publications it wants, by tags.
        join_leave: Whether it wants to hear who comes and goes.
        rejects_gap: Whether it wants no subscription where it cannot get all that it missed.
        by_server: Whether the server subscribes it.
    """

    grant: Grant
    since: Position | None = None
    filter: TagsFilter | None = None
    join_leave: bool = False
    rejects_gap: bool = False
    by_server: bool = False


class Held:
    """One channel that a session hears, or is about to.

    Attributes:
        channel: The channel.
        by_server: Whether the server has subscribed the session.
        cursor: Its place in the channel, None as long as it has none.
        is_present: Whether others know that it is there.
        expiry: Ends it, where it ends by itself.
    """

    __slots__ = ("by_server", "channel", "cursor", "expiry", "is_present")

    def __init__(self, channel: IChannel, by_server: bool) -> None:
        self.channel = channel
        self.by_server = by_server
        self.cursor: ISubscription | None = None
        self.is_present = False
        self.expiry: Expiry | None = None


class Subscriptions:
    """What one session hears, by the channels' names.

    Args:
        session: Whose they are.
        channels: Where channels come from.
        recent: Keeps those that are left.
        settings: Their rules.
        expiries: Ends those that end by themselves.
    """

    __slots__ = ("_channels", "_expiries", "_held", "_recent", "_session", "_settings")

    def __init__(
        self,
        session: Session,
        channels: IChannels,
        recent: RecentChannels,
        settings: Settings,
        expiries: Expiries,
    ) -> None:
        self._session = session
        self._channels = channels
        self._recent = recent
        self._settings = settings
        self._expiries = expiries
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        """Say whether a channel is heard, or about to be."""
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        """Give the channels' names."""
        return iter(tuple(self._held))

    def check_room(self, name: str) -> None:
        """Refuse a subscription for which there is no room.

        Raises:
            Refused: There is one already, or there are too many.
        """
        if name in self._held:
            raise refusal(ErrorCode.ALREADY_SUBSCRIBED)
        if len(self._held) >= self._settings.server.max_channels_per_connection:
            raise refusal(ErrorCode.LIMIT_EXCEEDED)

    async def add(self, name: str, wish: Wish) -> SubscribeResult:
        """Subscribe to a channel. Nothing is delivered before :meth:`begin`.

        Raises:
            Refused: There is no such channel, no room, or not what the client missed; or the
                session ends meanwhile.
        """
        rules = self._settings.rules_for(name)
        if rules is None:
            raise refusal(ErrorCode.UNKNOWN_CHANNEL)
        self.check_room(name)
        held = self._held[name] = Held(self._channels.get(name), wish.by_server)
        session, recovers = self._session, rules.recovers
        try:
            attached = await held.channel.attach(
                session.carrier,
                wish.since if recovers else None,
                wants=None if wish.filter is None else wants_tags(wish.filter),
                client=session.client,
                join_leave=wish.join_leave and rules.join_leave,
            )
            held.cursor = attached.subscription
            self._check_held(name, held)
            if wish.since is not None and wish.rejects_gap and not attached.recovered:
                raise refusal(ErrorCode.UNRECOVERABLE_POSITION)
            if wish.grant.is_seen and (rules.presence or rules.join_leave):
                held.is_present = True
                await held.channel.enter(self._info(wish.grant))
                held.is_present = True  # also where it had to leave before it was there
                self._check_held(name, held)
        except BaseException as error:
            if self._held.get(name) is held:
                del self._held[name]
            self._let_go(held)
            if isinstance(error, AlreadySubscribedError):
                raise refusal(ErrorCode.ALREADY_SUBSCRIBED) from error
            raise
        ttl = self._expire(name, held, wish.grant.ttl)
        return SubscribeResult(
            expires=ttl > 0,
            ttl=ttl,
            recoverable=recovers,
            positioned=True,
            epoch=attached.position.epoch,
            offset=attached.position.offset,
            publications=tuple(map(publication_result, attached.entries)),
            was_recovering=wish.since is not None,
            recovered=attached.recovered,
            data=wish.grant.data,
        )

    def begin(self, name: str) -> None:
        """Let publications flow: the client knows of its subscription now."""
        held = self._held.get(name)
        if held is not None and held.cursor is not None:
            held.cursor.begin()

    def remove(self, name: str) -> Held | None:
        """End a subscription, at once. Give what there was."""
        held = self._held.pop(name, None)
        if held is not None:
            self._let_go(held)
        return held

    def clear(self) -> None:
        """End all of them."""
        for name in self:
            self.remove(name)

    def find(self, cursor: ISubscription) -> Held | None:
        """Find what a cursor belongs to, None if it has ended."""
        held = self._held.get(cursor.channel)
        return held if held is not None and held.cursor is cursor else None

    def refresh(self, name: str, ttl: float | None) -> int:
        """Let a subscription go on, for so many seconds or (None) for ever.

        Returns:
            The seconds, as clients are told: 0 for ever.

        Raises:
            Refused: There is no such subscription.
        """
        held = self._held.get(name)
        if held is None:
            raise refusal(ErrorCode.PERMISSION_DENIED)
        return self._expire(name, held, ttl)

    def _check_held(self, name: str, held: Held) -> None:
        """Go on only if nobody has ended the subscription meanwhile."""
        if self._held.get(name) is not held or self._session.state not in ("connecting", "open"):
            raise refusal(ErrorCode.NOT_AVAILABLE)

    def _info(self, grant: Grant) -> ClientInfo:
        session = self._session
        return ClientInfo(session.user, session.client, session.info, grant.info)

    def _let_go(self, held: Held) -> None:
        if held.expiry is not None:
            held.expiry.cancel()
        if held.cursor is not None:
            held.cursor.close()
            rules = self._settings.rules_for(held.channel.name)
            if rules is not None and rules.recovers:
                self._recent.keep(held.channel, rules.history_ttl)
        if held.is_present:
            held.is_present = False
            _log_failure(held.channel.leave(self._session.client), held.channel.name)

    def _expire(self, name: str, held: Held, ttl: float | None) -> int:
        told = 0 if ttl is None else max(ceil(ttl), 1)  # first: where it is no number, it fails
        if held.expiry is not None:
            held.expiry.cancel()
        held.expiry = None
        if ttl is not None:
            end = partial(self._session.sub_expired, name)
            held.expiry = self._expiries.add(ttl + EXPIRY_GRACE, end)
        return told


def wants_tags(wanted: TagsFilter) -> Callable[[IEntry], bool]:
    """Make a filter over tags one over entries; the event's name is the tag ``event``."""
    return lambda entry: wanted({**entry.tags, "event": entry.event})


def _log_failure(left: Deferred[None], name: str) -> None:
    left.addErrback(
        lambda failure: _log.failure("nobody was told of a leave: {name}", failure, name=name)
    )
