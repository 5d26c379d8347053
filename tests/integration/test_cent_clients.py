"""The unmodified ``cent`` client against a real daemon."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.clients import bare, needs_websockets
from tests.integration.daemon import KEY, OPEN, RunningDaemon, daemon

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cent") is None, reason="cent is not installed"
)

SETTINGS = OPEN + "history_size = 100\nhistory_ttl = 300\npresence = true\n[channels.plain]\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Run one daemon for all tests; each has channels of its own."""
    settings = SETTINGS + "history_size = 0\nhistory_ttl = 0\npresence = false\n"
    with daemon(tmp_path_factory.mktemp("daemon"), settings) as found:
        yield found


@pytest.fixture
def client(running: RunningDaemon) -> Any:
    """Give a client that has the key."""
    return _client(running, KEY)


def _client(running: RunningDaemon, key: str) -> Any:
    import cent
    import requests

    session = requests.Session()
    session.trust_env = False
    return cent.Client(f"{running.address}/api", key, session=session)


def test_publish_and_history(client: Any) -> None:
    """What is published can be read, by pages and backwards, and removed."""
    from cent import HistoryRemoveRequest, HistoryRequest, PublishRequest, StreamPosition

    first = client.publish(PublishRequest(channel="a", data={"n": 0}, tags={"event": "begun"}))
    for number in range(1, 5):
        last = client.publish(PublishRequest(channel="a", data={"n": number}))
    assert (first.offset, last.offset, first.epoch) == (1, 5, last.epoch)

    assert client.history(HistoryRequest(channel="a")).publications == []
    page = client.history(HistoryRequest(channel="a", limit=2))
    assert (page.offset, page.epoch) == (5, last.epoch)
    assert [(pub.offset, pub.data["n"]) for pub in page.publications] == [(1, 0), (2, 1)]
    assert page.publications[0].tags == {"event": "begun"}
    since = StreamPosition(offset=2, epoch=page.epoch)
    page = client.history(HistoryRequest(channel="a", limit=-1, since=since))
    assert [pub.offset for pub in page.publications] == [3, 4, 5]
    page = client.history(HistoryRequest(channel="a", limit=1, reverse=True))
    assert [pub.offset for pub in page.publications] == [5]
    client.history_remove(HistoryRemoveRequest(channel="a"))
    page = client.history(HistoryRequest(channel="a", limit=-1))
    assert (page.publications, page.offset) == ([], 5)


def test_history_of_another_life(client: Any) -> None:
    """A position of another epoch is refused, not answered with something else."""
    from cent import CentApiResponseError, HistoryRequest, PublishRequest, StreamPosition

    client.publish(PublishRequest(channel="life", data=1))
    since = StreamPosition(offset=0, epoch="another")
    with pytest.raises(CentApiResponseError) as refused:
        client.history(HistoryRequest(channel="life", limit=1, since=since))
    assert refused.value.code == 112


def test_idempotent(client: Any) -> None:
    """A publication that is sent twice with one key happens once."""
    from cent import PublishRequest

    request = PublishRequest(channel="twice", data=1, idempotency_key="k")
    assert client.publish(request) == client.publish(request)
    assert client.publish(PublishRequest(channel="twice", data=1)).offset == 2


def test_broadcast(client: Any) -> None:
    """Each channel of a broadcast has an answer of its own."""
    from cent import BroadcastRequest

    result = client.broadcast(BroadcastRequest(channels=["b", "nowhere:b", "c"], data={}))
    good, bad, other = result.responses
    assert (good.result.offset, other.result.offset) == (1, 1)
    assert (bad.result, bad.error.code) == (None, 102)


def test_batch(client: Any) -> None:
    """Several calls in one request, one after another or all at once."""
    from cent import BatchRequest, HistoryRequest, PresenceStatsRequest, PublishRequest

    for parallel, channel in ((False, "batch"), (True, "parallel")):
        result = client.batch(
            BatchRequest(
                requests=[
                    PublishRequest(channel=channel, data=1),
                    PublishRequest(channel=channel, data=2),
                    HistoryRequest(channel=channel, limit=10),
                    PresenceStatsRequest(channel=channel),
                ],
                parallel=parallel,
            )
        )
        one, two, history, stats = result.replies
        assert (one.offset, two.offset, stats.num_clients) == (1, 2, 0)
        assert [pub.data for pub in history.publications] == [1, 2]


@needs_websockets
def test_sessions(running: RunningDaemon, client: Any) -> None:
    """A session is subscribed, seen, unsubscribed, refreshed and disconnected."""
    from cent import (
        ChannelsRequest,
        Disconnect,
        DisconnectRequest,
        InfoRequest,
        PresenceRequest,
        PresenceStatsRequest,
        PublishRequest,
        RefreshRequest,
        SubscribeRequest,
        UnsubscribeRequest,
    )

    with bare(running, connect=False) as one, bare(running) as other:
        name = one.ask(id=1, connect={})["connect"]["client"]
        assert other.ask(id=2, subscribe={"channel": "s:not"})["error"]["code"] == 102
        other.ask(id=3, subscribe={"channel": "seen"})
        subscribe = SubscribeRequest(
            user="", client=name, channel="seen", data={"a": 1}, info={"role": "x"}
        )
        client.subscribe(subscribe)
        push = one.next()["push"]
        assert push["channel"] == "seen"
        assert (push["subscribe"]["data"], push["subscribe"]["recoverable"]) == ({"a": 1}, True)
        client.subscribe(subscribe)  # again: nothing happens
        client.publish(PublishRequest(channel="seen", data="x"))
        assert one.next()["push"]["pub"]["data"] == "x"

        presence = client.presence(PresenceRequest(channel="seen")).presence
        assert len(presence) == 2
        assert (presence[name].client, presence[name].chan_info) == (name, {"role": "x"})
        stats = client.presence_stats(PresenceStatsRequest(channel="seen"))
        assert (stats.num_clients, stats.num_users) == (2, 1)
        channels = client.channels(ChannelsRequest()).channels
        assert channels["seen"].num_clients == 2
        assert "seen" in client.channels(ChannelsRequest(pattern="s??n")).channels
        assert client.channels(ChannelsRequest(pattern="x*")).channels == {}
        (node,) = client.info(InfoRequest()).nodes
        assert (node.num_clients, node.num_subs, node.num_channels) == (2, 2, 1)
        assert node.name == "oni"

        client.unsubscribe(UnsubscribeRequest(user="", client=name, channel="seen"))
        told = {"code": 2000, "reason": "server unsubscribe"}
        assert one.next()["push"] == {"channel": "seen", "unsubscribe": told}
        client.refresh(RefreshRequest(user="", client=name, expire_at=int(time.time()) + 60))
        told = one.next()["push"]["refresh"]
        assert told["expires"]
        assert 50 <= told["ttl"] <= 60
        client.refresh(RefreshRequest(user="", client=name, expired=True))
        assert one.closed_with() == (3005, "connection expired")

        client.disconnect(
            DisconnectRequest(user="", disconnect=Disconnect(code=4001, reason="enough"))
        )
        assert other.closed_with() == (4001, "enough")


def test_whitelist(running: RunningDaemon, client: Any) -> None:
    """Some sessions of a user may stay."""
    from cent import DisconnectRequest

    with bare(running, connect=False) as one, bare(running) as other:
        name = one.ask(id=1, connect={})["connect"]["client"]
        client.disconnect(DisconnectRequest(user="", whitelist=[name]))
        assert other.closed_with() == (3503, "force disconnect")
        assert one.ask(id=2, ping={}) == {"id": 2, "ping": {}}
        client.disconnect(DisconnectRequest(user="nobody"))
        assert one.ask(id=3, ping={}) == {"id": 3, "ping": {}}


def test_not_offered(client: Any) -> None:
    """What a namespace does not keep, and what nobody offers, is refused."""
    from cent import (
        CentApiResponseError,
        CentTransportError,
        HistoryRequest,
        PresenceRequest,
        PublishRequest,
    )

    for call, request in (
        (client.history, HistoryRequest(channel="plain:a")),
        (client.presence, PresenceRequest(channel="plain:a")),
    ):
        with pytest.raises(CentApiResponseError) as refused:
            call(request)
        assert refused.value.code == 108
    for wrong in ({"skip_history": True}, {"b64data": "eA=="}):
        with pytest.raises(CentTransportError) as failed:
            client.publish(PublishRequest(channel="a", data=1, **wrong))
        assert failed.value.status_code == 400


def test_key(running: RunningDaemon) -> None:
    """Without the key nothing is answered."""
    from cent import CentUnauthorizedError, InfoRequest

    with pytest.raises(CentUnauthorizedError):
        _client(running, "not the key of this").info(InfoRequest())
