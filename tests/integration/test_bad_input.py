"""Bad input from outside: each gets one clear answer, and the daemon stays up for the others."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import bare, needs_websockets
from tests.integration.daemon import KEY, OPEN, RunningDaemon, daemon

pytestmark = needs_websockets

LIMIT = 4096
SETTINGS = OPEN.replace("[auth]", f"max_message_bytes = {LIMIT}\nhandshake_timeout = 1.0\n[auth]")
MORE = """
[channels.readonly]
publish = false
[channels.closed]
publish = false
subscribe = false
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon for all of them: what one test does must not harm the next one."""
    with daemon(tmp_path_factory.mktemp("daemon"), SETTINGS, more=MORE) as found:
        yield found


@pytest.fixture(autouse=True)
def still_serves(running: RunningDaemon) -> Iterator[None]:
    """After each test a client that was there before is still served, and so is a new one."""
    with bare(running) as before:
        yield
        assert "publish" in before.ask(id=90, publish={"channel": "news", "data": 1})
    with bare(running) as after:
        assert "subscribe" in after.ask(id=2, subscribe={"channel": "news"})


# --- Websocket ---


@pytest.mark.parametrize(
    "frame",
    ["not JSON", "[1, 2]", '{"id": 2, "publish": ', '{"id": "2", "publish": {}}', "\n\n", "7"],
)
def test_frames_that_are_no_commands(running: RunningDaemon, frame: str) -> None:
    """A frame that is no command closes this connection as a bad request, for good."""
    with bare(running) as client:
        client.socket.send(frame)
        assert client.closed_with() == (3501, "bad request")


def test_wrong_fields(running: RunningDaemon) -> None:
    """A wrong field is named in the reply, and the connection stays."""
    with bare(running) as client:
        reply = client.ask(id=2, publish={"channel": 7, "data": 1})
        assert reply["error"]["code"] == 107
        assert "channel" in reply["error"]["message"]
        assert "publish" in client.ask(id=3, publish={"channel": "news", "data": 1})


def test_unknown_command(running: RunningDaemon) -> None:
    """A command that there is not, or not yet, is answered so."""
    with bare(running) as client:
        assert client.ask(id=2, dance={})["error"]["code"] in (104, 107)
        assert client.ask(id=3, history={"channel": "news"})["error"]["code"] == 108


def test_frame_that_is_too_large(running: RunningDaemon) -> None:
    """A message over the limit closes with 1009; one of the limit's size is served."""
    with bare(running) as client:
        start = '{"id": 2, "publish": {"channel": "news", "data": "'
        fits = start + "x" * (LIMIT - len(start) - 3) + '"}}'
        assert len(fits) == LIMIT
        client.socket.send(fits)
        assert "publish" in client.next()
        client.socket.send(fits + " ")
        assert client.closed_with()[0] == 1009


def test_many_small_pieces(running: RunningDaemon) -> None:
    """The limit also holds for a message in pieces."""
    from websockets.exceptions import ConnectionClosed

    with bare(running) as client:
        with suppress(ConnectionError, ConnectionClosed):  # it may be closed while it sends
            client.socket.send("x" * 512 for _ in range(2 * LIMIT // 512))
        assert client.closed_with()[0] == 1009


def test_deep_json(running: RunningDaemon) -> None:
    """Data nested too deep is a bad request, not a crash."""
    with bare(running) as client:
        deep = "[" * 1000 + "]" * 1000
        client.socket.send(f'{{"id": 2, "publish": {{"channel": "news", "data": {deep}}}}}')
        assert client.closed_with()[0] == 3501


def test_binary_frame(running: RunningDaemon) -> None:
    """Bytes that are no text of the protocol are refused with a code."""
    with bare(running) as client:
        client.socket.send(b"\x00\xff\x00")
        assert client.closed_with()[0] in (1003, 1007, 3501)


def test_command_before_connect(running: RunningDaemon) -> None:
    """Whoever has not connected may do nothing."""
    with bare(running, connect=False) as client:
        client.socket.send('{"id": 1, "publish": {"channel": "news", "data": 1}}')
        assert client.closed_with()[0] == 3501


def test_a_token_that_proves_nothing(running: RunningDaemon) -> None:
    """A token that cannot be checked is not taken for none."""
    with bare(running, connect=False) as client:
        client.socket.send('{"id": 1, "connect": {"token": "forged"}}')
        assert client.closed_with()[0] == 3500


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"publish": {"channel": "readonly:1", "data": 1}}, 103),
        ({"publish": {"channel": "unknown:1", "data": 1}}, 102),
        ({"subscribe": {"channel": "closed:1"}}, 103),
        ({"subscribe": {"channel": "unknown:1"}}, 102),
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {"channel": "x" * 300}}, 107),
        ({"subscribe": {"channel": "two words"}}, 107),
    ],
)
def test_channels_that_are_not_allowed(
    running: RunningDaemon, command: dict[str, Any], code: int
) -> None:
    """What the settings do not allow is refused with the protocol's code."""
    with bare(running) as client:
        assert client.ask(id=2, **command)["error"]["code"] == code


def test_subscribing_twice(running: RunningDaemon) -> None:
    """A second subscription to the same channel is refused, the first one stays."""
    with bare(running) as client:
        client.ask(id=2, subscribe={"channel": "twice"})
        assert client.ask(id=3, subscribe={"channel": "twice"})["error"]["code"] == 105


# --- The handshake ---


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.example",
        "null",
    ],
)
def test_foreign_origins(running: RunningDaemon, origin: str) -> None:
    """A page from elsewhere gets no websocket; what is no origin at all is a bad request."""
    from websockets.exceptions import InvalidStatus

    with (
        pytest.raises(InvalidStatus) as refused,
        bare(running, origin=origin.replace("{port}", str(running.port))),
    ):
        pass
    malformed = origin == "null" or origin.endswith("{port}.evil.example")
    assert refused.value.response.status_code == (400 if malformed else 403)


def test_own_origin(running: RunningDaemon) -> None:
    """The daemon's own page gets one."""
    with bare(running, origin=running.address) as client:
        assert "publish" in client.ask(id=2, publish={"channel": "news", "data": 1})


def raw(running: RunningDaemon, request: bytes) -> bytes:
    """Send bytes and give everything that comes back until the daemon closes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


UPGRADE = (
    b"GET /connection/websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nConnection: close\r\n", UPGRADE])
@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example", b""])
def test_bad_hosts(running: RunningDaemon, head: bytes, host: bytes) -> None:
    """A request for another host is not answered: its page was led here by a name of its own."""
    answer = raw(running, head + b"Host: %s\r\n\r\n" % host)
    assert answer.startswith(b"HTTP/1.1 421 "), answer


@pytest.mark.parametrize(
    "smuggled",
    [
        b"X-Test: hello\x0bX-Evil: smuggled\r\n",
        b"X-Test: hello\x85X-Evil: smuggled\r\n",
        b"X-Test: hello\nX-Evil: smuggled\r\n",
        b"X-Test: hello\r\n folded\r\n",
        b"X Test: hello\r\n",
        b"Host: 127.0.0.1\r\n",
    ],
)
def test_smuggled_headers(running: RunningDaemon, smuggled: bytes) -> None:
    """A head that two parsers read in two ways is refused before any of them does."""
    for head in (b"GET / HTTP/1.1\r\nConnection: close\r\n", UPGRADE):
        host = b"Host: 127.0.0.1:%d\r\n" % running.port
        answer = raw(running, head + host + smuggled + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer


def test_endless_head(running: RunningDaemon) -> None:
    """A head that does not end is refused at its limit."""
    answer = raw(running, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2740 + b"X: ")
    assert answer.startswith(b"HTTP/1.1 431 "), answer


def test_slow_head(running: RunningDaemon) -> None:
    """A head that does not come is given up in time."""
    assert raw(running, b"GET / HT").startswith(b"HTTP/1.1 408 ")


# --- The HTTP API ---


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": "wrong-key-of-some-length"}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": ""}],
)
def test_wrong_api_key(running: RunningDaemon, headers: dict[str, str]) -> None:
    """Without the key nothing is published, and the answer says why."""
    with bare(running) as client:
        client.ask(id=2, subscribe={"channel": "news"})
        body = b'{"channel": "news", "data": 1}'
        status, answer, _ = running.request("POST", "/api/publish", body, headers)
        assert status == 401
        assert json.loads(answer)["error"]["code"] == 101
        running.publish("news", "only this one")
        assert client.next()["push"]["pub"]["data"] == "only this one"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"not JSON", "JSON"),
        (b"{}", "channel"),
        (b'{"channel": 7, "data": 1}', "channel"),
        (b'{"channel": "news"}', "data"),
        (b'{"channel": "news", "data": 1, "tags": {"event": 7}}', "tags"),
    ],
)
def test_bad_bodies(running: RunningDaemon, body: bytes, part: str) -> None:
    """A wrong body is answered with what is wrong."""
    status, answer, _ = running.request("POST", "/api/publish", body, {"X-API-Key": KEY})
    assert status == 400
    error = json.loads(answer)["error"]
    assert error["code"] == 107
    assert part in error["message"]


def test_unknown_namespace(running: RunningDaemon) -> None:
    """Also the API cannot publish where the settings know no channels."""
    assert running.publish("unknown:1", 1)["error"]["code"] == 102


def test_unknown_paths(running: RunningDaemon) -> None:
    """What is not there is said not to be there."""
    assert running.request("POST", "/api/dance", b"{}", {"X-API-Key": KEY})[0] == 404
    assert running.request("GET", "/api/publish")[0] == 405
    assert running.request("GET", "/nothing")[0] == 404
    assert running.request("GET", "/static/../oni.toml")[0] == 404
    assert running.request("GET", "/connection/websocket")[0] == 426


def test_large_body(running: RunningDaemon) -> None:
    """A body over the limit is refused as soon as it is known to be."""
    answer = raw(
        running,
        b"POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %s\r\n"
        b"Content-Length: 99999999\r\n\r\n" % KEY.encode(),
    )
    assert answer.startswith(b"HTTP/1.1 413 "), answer


# --- A daemon that allows nothing ---


def test_nobody_may_connect(tmp_path: Path) -> None:
    """Without settings the first command is refused, for good."""
    settings = '[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n'
    with daemon(tmp_path, settings) as closed, bare(closed, connect=False) as client:
        client.socket.send('{"id": 1, "connect": {}}')
        assert client.closed_with()[0] == 3500
