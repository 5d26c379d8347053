"""The how-to page on nginx, with a real nginx: what it shows works as it says."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.certificate import write_certificate
from tests.integration.clients import NGINX, needs_nginx, needs_websockets
from tests.integration.daemon import CHECKOUT, KEY, daemon, environment, free_port, wait_until

pytestmark = [needs_nginx, needs_websockets]

PAGE = (CHECKOUT / "docs" / "how-to" / "nginx.rst").read_text(encoding="utf-8")
ONI = (sys.executable, "-m", "oni")
NAME = "events.example.org"
MORE = """
[auth]
anonymous = true
[api]
key = "{key}"
[channels]
subscribe = true
history_size = 10
history_ttl = 60
"""
HTTP = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""


def block(language: str) -> str:
    """Give the page's block in this language."""
    (found,) = re.findall(
        rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE
    )
    return textwrap.dedent(found)


def swapped(text: str, **pairs: str) -> str:
    """Put something else in the place of what the page says, which must be there once."""
    for old, new in pairs.values():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Proxied:
    """A daemon behind nginx.

    Attributes:
        port: nginx's port.
        certificate: Whom to trust.
    """

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.certificate = certificate
        self.context = ssl.create_default_context(cafile=str(certificate))

    def connection(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """Connect from this address."""
        made = socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))
        return self.context.wrap_socket(made, server_hostname=NAME)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Make a request; give status and body."""
        client = http.client.HTTPConnection(NAME, self.port)
        client.sock = self.connection()
        try:
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, path, body, {"Host": NAME, **said})
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def publish(self, data: Any) -> None:
        """Publish on ``news``."""
        body = json.dumps({"channel": "news", "data": data}).encode()
        status, answer = self.request("POST", "/api/publish", body, X_API_Key=KEY)
        assert status == 200, answer
        assert "result" in json.loads(answer), answer

    def websocket(self, source: str = "127.0.0.1", **options: Any) -> Any:
        """Open a websocket from this address."""
        from websockets.sync.client import connect

        address = f"wss://{NAME}/connection/websocket"
        made = socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))
        return connect(
            address,
            sock=made,
            ssl=self.context,
            proxy=None,
            compression=None,
            **options,
        )


@contextmanager
def proxied(folder: Path, server: str = "") -> Iterator[Proxied]:
    """Run the page's daemon and the page's nginx, while the block runs.

    Args:
        folder: Where their files go.
        server: More for ``[server]``.
    """
    settings = swapped(
        block("toml"),
        listen=("tcp:8000:", "tcp:{port}:"),
        hosts=(f'["{NAME}"]', f'["{NAME}", "localhost", "127.0.0.1"]'),
    )
    certificate, key = write_certificate(folder, NAME, "localhost")
    port = free_port()
    with daemon(folder, settings + server + MORE) as running:
        text = swapped(
            block("nginx"),
            daemon=("127.0.0.1:8000", f"127.0.0.1:{running.port}"),
            listen=("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            certificate=("/etc/ssl/events.example.org.pem", str(certificate)),
            key=("/etc/ssl/private/events.example.org.key", str(key)),
        )
        path = folder / "nginx.conf"
        path.write_text(HTTP.format(folder=folder, text=text), encoding="utf-8")
        assert NGINX is not None
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(path), "-e", str(folder / "start.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:

            def listens() -> bool:
                assert process.poll() is None, process.communicate()[0]
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            wait_until(listens, "nginx")
            yield Proxied(port, certificate)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def ask(client: Any, **command: Any) -> Any:
    """Send a command, and give what comes next."""
    client.send(json.dumps(command))
    return json.loads(client.recv(timeout=30))


def test_page_as_written(tmp_path: Path) -> None:
    """Websocket, API and event stream work through it, and each event comes at once."""
    with proxied(tmp_path) as site:
        assert site.request("GET", "/")[0] == 200
        with site.websocket(origin=f"https://{NAME}") as client:
            assert "connect" in ask(client, id=1, connect={})
            assert "subscribe" in ask(client, id=2, subscribe={"channel": "news"})
            stream = site.connection()
            with stream:
                stream.sendall(
                    b"GET /connection/sse/news HTTP/1.1\r\nHost: %s\r\n\r\n" % NAME.encode()
                )
                found = b""
                while b"\nid: " not in found:  # it stands in the channel now
                    found += stream.recv(4096)
                site.publish({"n": 7})
                while b'data: {"n":7}' not in found.replace(b'": ', b'":'):
                    data = stream.recv(4096)
                    assert data, found
                    found += data
            assert json.loads(client.recv(timeout=30))["push"]["pub"]["data"] == {"n": 7}


def test_other_origins(tmp_path: Path) -> None:
    """A page of another site may not connect, nor may one of this name without TLS."""
    from websockets.exceptions import InvalidStatus

    with proxied(tmp_path) as site:
        for origin in ("https://evil.example", f"http://{NAME}:8080"):
            with pytest.raises(InvalidStatus) as refused:
                site.websocket(origin=origin)
            assert refused.value.response.status_code == 403


def test_clients_addresses(tmp_path: Path) -> None:
    """Clients are counted by their own address; what they say of it themselves is not believed."""
    from websockets.exceptions import InvalidStatus

    limit = "max_connections_per_address = 2\n"
    with proxied(tmp_path, limit) as site, ExitStack() as opened:
        for invented in ("203.0.113.1", "203.0.113.2"):
            headers = {"X-Forwarded-For": invented}
            opened.enter_context(site.websocket("127.0.0.2", additional_headers=headers))
        with pytest.raises(InvalidStatus) as refused:
            headers = {"X-Forwarded-For": "203.0.113.3"}
            site.websocket("127.0.0.2", additional_headers=headers)
        assert refused.value.response.status_code == 429
        opened.enter_context(site.websocket("127.0.0.3"))


def test_commands(tmp_path: Path) -> None:
    """The commands work through it, over TLS; the doctor finds all well that concerns it."""
    with proxied(tmp_path) as site:

        def oni(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
            trusting = {
                "SSL_CERT_FILE": str(site.certificate),
                "ONI_API_KEY": KEY,
                "ONI_URL": f"https://localhost:{site.port}",
            }
            return subprocess.run(
                [*ONI, *arguments],
                cwd=tmp_path,
                env={**environment(), **trusting, **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        done = oni("doctor", "--json")
        rows = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
        for what in (
            "daemon",
            "encryption",
            "its clock",
            "api",
            "hosts",
            "websocket",
            "foreign origins",
        ):
            assert rows[what]["level"] == "ok", rows[what]
        # Subscribers and publisher, both over TLS and through it.
        measured = oni("bench", "-s", "2", "-m", "10", "--channel", "news", "--json")
        assert measured.returncode == 0, measured
        assert json.loads(measured.stdout)["delivered"] == 20
        for command in (("history", "news"), ("sub", "news")):
            stranger = oni(*command, SSL_CERT_FILE="/dev/null")
            assert (stranger.returncode, stranger.stdout) == (3, ""), stranger
            assert "its certificate is not trusted" in stranger.stderr, stranger
        other = f"https://127.1:{site.port}"  # the same place by another name
        for command in (("history", "news"), ("sub", "news")):
            stranger = oni(*command, "--url", other)
            assert (stranger.returncode, stranger.stdout) == (3, ""), stranger
            assert "certificate" in stranger.stderr, stranger
        # nginx takes a bare line feed for the end of a line, and writes it anew as one.
        assert rows["header guard"]["found"] == "what is in front lets through: a bare line feed"
        assert done.returncode == 0, done.stderr
