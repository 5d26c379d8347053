"""What the settings allow: the first handler of every act."""

from __future__ import annotations

from oni.channels import check_event, check_name
from oni.errors import ChannelNameError, EventNameError
from oni.protocol import ErrorCode
from oni.server._acts import Act, bad_request, refusal, session_of
from oni.server._settings import ChannelRules, Settings

__all__ = ["check_act"]

_ON_CHANNELS = frozenset(
    (
        "history",
        "history_remove",
        "presence",
        "presence_stats",
        "publish",
        "sub_refresh",
        "subscribe",
        "unsubscribe",
    )
)


def check_act(act: Act, settings: Settings) -> None:
    """Refuse an act that the settings do not allow.

    What does not come from a session (the HTTP API, the application itself) may do everything
    that is possible.

    Raises:
        Refused: With the protocol's code for the reason.
    """
    if act.action == "connect":
        _check_connect(act, settings)
    elif act.action in _ON_CHANNELS:
        _check_names(act)
        if act.action not in ("sub_refresh", "unsubscribe"):
            _check_channel(act, settings)


def _check_connect(act: Act, settings: Settings) -> None:
    # No token can be proven yet, so none is taken for one.
    if act.token or not settings.auth.anonymous:
        raise refusal(ErrorCode.UNAUTHORIZED)


def _check_names(act: Act) -> None:
    try:
        check_name(act.channel)
        if act.action == "publish":
            check_event(act.event)
    except (ChannelNameError, EventNameError) as error:
        raise bad_request(error) from error


def _check_channel(act: Act, settings: Settings) -> None:
    rules = settings.rules_for(act.channel)
    if rules is None:
        raise refusal(ErrorCode.UNKNOWN_CHANNEL)
    if act.action in ("history", "history_remove", "presence", "presence_stats"):
        _check_kept(act, rules)
        return
    session = session_of(act)
    if session is None:
        return
    if act.action == "publish":
        if not rules.publish:
            raise refusal(ErrorCode.PERMISSION_DENIED)
        return
    if not rules.subscribe:
        raise refusal(ErrorCode.PERMISSION_DENIED)
    session.subscriptions.check_room(act.channel)


def _check_kept(act: Act, rules: ChannelRules) -> None:
    """Let those ask who are subscribed, for what is kept."""
    if not (rules.stream.keeps_history if "history" in act.action else rules.presence):
        raise refusal(ErrorCode.NOT_AVAILABLE)
    session = session_of(act)
    if session is not None and act.channel not in session.subscriptions:
        raise refusal(ErrorCode.PERMISSION_DENIED)
