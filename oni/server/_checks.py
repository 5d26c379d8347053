"""What the settings allow: the first handler of every act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oni.channels import check_event, check_name
from oni.errors import ChannelNameError, EventNameError
from oni.protocol import ErrorCode
from oni.server._acts import Act, bad_request, proof_of, refusal, session_of
from oni.server._settings import ChannelRules, Settings
from oni.server.auth._permissions import demands, is_let_in, permits

if TYPE_CHECKING:
    from oni.server._session import Session

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
    proof = proof_of(act)
    if proof is not None and proof.verdict is not None:
        raise proof.verdict
    if act.action == "connect":
        _check_connect(act, settings)
    elif act.action in _ON_CHANNELS:
        _check_names(act)
        if act.action != "unsubscribe":
            _check_channel(act, settings)


def _check_connect(act: Act, settings: Settings) -> None:
    proof = proof_of(act)
    if (proof is None or proof.identity is None) and not settings.auth.anonymous:
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
        _check_permission(act, session, rules.publish)
    elif act.action == "sub_refresh":
        _check_refresh(act, rules)
    else:
        _check_permission(act, session, rules.subscribe)
        session.subscriptions.check_room(act.channel)


def _check_kept(act: Act, rules: ChannelRules) -> None:
    """Let those ask whom the settings let, for what is kept."""
    of_history = "history" in act.action
    if not (rules.stream.keeps_history if of_history else rules.presence):
        raise refusal(ErrorCode.NOT_AVAILABLE)
    session = session_of(act)
    if session is not None:
        rule = rules.read_history if of_history else rules.read_presence
        _check_permission(act, session, rule)


def _check_refresh(act: Act, rules: ChannelRules) -> None:
    """Let no subscription that needs a token go on without one."""
    if demands(rules.subscribe, "token") and not _has_token(act):
        raise refusal(ErrorCode.PERMISSION_DENIED)


def _check_permission(act: Act, session: Session, rule: bool | str | tuple[str, ...]) -> None:
    """Let a session do what a rule lets it, on a channel that is not somebody else's own."""

    def standing(what: str) -> bool:
        if what == "authenticated":
            return bool(act.user)
        if what == "subscriber":
            return act.channel in session.subscriptions
        return _has_token(act)

    if not permits(rule, standing) or not is_let_in(act.channel, act.user):
        raise refusal(ErrorCode.PERMISSION_DENIED)


def _has_token(act: Act) -> bool:
    proof = proof_of(act)
    return proof is not None and proof.permission is not None
