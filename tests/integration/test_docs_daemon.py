"""The pages about the daemon: what stands in their blocks does what they say."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tests.integration.clients import bare, needs_centrifuge, needs_websockets
from tests.integration.daemon import CHECKOUT, OPEN, daemon, environment, free_port, wait_until

HEARD = 'def heard(act):\n    print("heard", act.data, flush=True)\n\n'


def blocks(page: str, language: str) -> list[str]:
    """Give the blocks of a page that are written in a language."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    pattern = rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)"
    return [textwrap.dedent(found) for found in re.findall(pattern, text, re.MULTILINE)]


@needs_centrifuge
def test_quick_start_client(tmp_path: Path) -> None:
    """The quick start's client prints what is published."""
    (program,) = blocks("tutorial/quick_start.rst", "python")
    with daemon(tmp_path) as running:
        assert program.count("127.0.0.1:8000") == 1
        program = program.replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
        printed = tmp_path / "printed.txt"
        with open(printed, "wb") as output:
            client = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

        def heard() -> bool:
            running.publish("news", {"user": "bob"}, "user_created")
            time.sleep(0.2)
            return printed.stat().st_size > 0

        try:
            wait_until(heard, "what the client prints", 20)
            assert client.poll() is None
        finally:
            client.kill()
            client.wait()
        lines = printed.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "{'event': 'user_created'} {'user': 'bob'}"


@needs_websockets
def test_quick_start_answers(tmp_path: Path) -> None:
    """With the file that the quick start writes and the line that it adds, the example answers."""
    port = free_port()
    subprocess.run(
        [sys.executable, "-m", "oni.server.quickstart", "oni.toml", "--port", str(port)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    settings = (tmp_path / "oni.toml").read_text(encoding="utf-8")
    (more,) = blocks("tutorial/quick_start.rst", "toml")
    shop = (CHECKOUT / "examples" / "quickstart" / "shop.py").read_text(encoding="utf-8")
    with (
        daemon(tmp_path, settings, modules={"shop.py": shop}, more=more, port=port) as running,
        bare(running) as client,
    ):
        lobby = "chat:lobby"
        assert "subscribe" in client.ask(id=2, subscribe={"channel": lobby})
        client.ask(id=3, publish={"channel": lobby, "data": {"text": "  hello  "}})
        refused = client.ask(id=4, publish={"channel": lobby, "data": {"text": "darn it"}})
        assert refused["error"]["message"] == "mind your language"


@needs_websockets
def test_application_publishes(tmp_path: Path) -> None:
    """A handler publishes as the page shows, and events of one's own have their own keyword."""
    publish, _ = blocks("how-to/application.rst", "python")
    configure, keywords, _ = blocks("how-to/application.rst", "toml")
    shop = f"""
def configure(oni):
    async def answer(act):
        {publish.strip()}
        await oni.dispatcher.fire_event("order 1", order_state="paid")

    def paid(order):
        print("paid", order, flush=True)

    oni.dispatcher.add_event_handler(answer, "after", action="publish", event="user_created")
    oni.dispatcher.add_event_handler(paid, "during", order_state="paid")
"""
    more = configure + keywords
    with (
        daemon(tmp_path, modules={"shop.py": shop}, more=more) as running,
        bare(running) as client,
    ):
        client.ask(id=2, subscribe={"channel": "news"})
        running.publish("news", {"user": "bob"}, "user_created")
        while True:
            publication = client.next().get("push", {}).get("pub", {})
            if publication.get("tags") == {"event": "welcome"}:
                break
        assert publication["data"] == {"text": "Welcome!"}
        wait_until(lambda: "paid order 1" in running.log(), "the event of the application's own")


def test_application_finds_the_utility(tmp_path: Path) -> None:
    """The configure that only knows the interface registers its handler."""
    _, utility = blocks("how-to/application.rst", "python")
    configure, _, _ = blocks("how-to/application.rst", "toml")
    with daemon(tmp_path, modules={"shop.py": HEARD + utility}, more=configure) as running:
        running.publish("news", {"user": "bob"})
        wait_until(lambda: "heard {'user': 'bob'}" in running.log(), "the handler's turn")


def test_application_in_zcml(tmp_path: Path) -> None:
    """So does the ZCML file."""
    _, _, zca = blocks("how-to/application.rst", "toml")
    (zcml,) = blocks("how-to/application.rst", "xml")
    modules = {"shop.py": HEARD, "shop.zcml": zcml}
    with daemon(tmp_path, OPEN, modules=modules, more=zca) as running:
        running.publish("news", {"user": "bob"})
        wait_until(lambda: "heard {'user': 'bob'}" in running.log(), "the handler's turn")
