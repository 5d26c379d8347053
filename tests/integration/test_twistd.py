"""``twistd oni`` as a person or a supervisor runs it: checks, help, start and end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oni.server._settings import describe
from tests.integration.clients import bare, needs_websockets
from tests.integration.daemon import (
    ENDED,
    GIVEN_UP,
    KEY,
    OPEN,
    daemon,
    environment,
    free_port,
    run_twistd,
    wait_until,
)

APP = '[app]\nconfigure = "shop:configure"\n'


def write(folder: Path, settings: str, **modules: str) -> None:
    """Write a settings file, and modules beside it."""
    text = settings.replace("{port}", str(free_port())).replace("{key}", KEY)
    (folder / "oni.toml").write_text(text, encoding="utf-8")
    for name, content in modules.items():
        (folder / f"{name}.py").write_text(content, encoding="utf-8")


# --- What is said without starting ---


def test_help(tmp_path: Path) -> None:
    """``twistd oni --help`` names every setting, and ``twistd --help`` the command."""
    done = run_twistd(tmp_path, "oni", "--help")
    assert done.returncode == 0
    assert [info.path for info in describe() if info.path not in done.stdout] == []
    assert re.search(r"^    oni  ", run_twistd(tmp_path, "--help").stdout, re.MULTILINE)


def test_version(tmp_path: Path) -> None:
    """``--version`` says Oni's."""
    assert re.match(r"Oni \d", run_twistd(tmp_path, "oni", "--version").stdout)


def test_no_reactor() -> None:
    """Reading the command line chooses no reactor: twistd's ``--reactor`` still can."""
    code = "import sys, oni.server.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def test_check_good(tmp_path: Path) -> None:
    """Good settings are said to be so, and nothing is called, listened on or left behind."""
    write(tmp_path, OPEN + APP, shop="def configure(oni): raise ValueError\n")
    done = run_twistd(tmp_path, "-n", "oni", "--config", "oni.toml", "--check")
    assert (done.returncode, done.stdout) == (0, "oni.toml: the settings are right\n")
    assert not (tmp_path / "twistd.pid").exists()


def test_check_bad(tmp_path: Path) -> None:
    """Every problem is named at once, without a traceback."""
    write(tmp_path, '[server]\nmax_message_bytes = "big"\n[auth]\nanonymus = true\n')
    for flags in (["--check"], []):
        done = run_twistd(tmp_path, "-n", "oni", "--config", "oni.toml", *flags)
        assert done.returncode == 1
        assert (
            "server.max_message_bytes: expected an integer of 1 or more, got 'big'" in done.stdout
        )
        assert "auth.anonymus: unknown key (did you mean 'anonymous'?)" in done.stdout
        assert "Traceback" not in done.stdout


def test_check_application(tmp_path: Path) -> None:
    """A missing function and a missing ZCML file are found, without a traceback."""
    write(
        tmp_path,
        f'{OPEN}[app]\nconfigure = "shop:configur"\n[zca]\nzcml = "shop.zcml"\n',
        shop="def configure(oni): pass\n",
    )
    for flags in (["--check"], []):
        done = run_twistd(tmp_path, "-n", "oni", "--config", "oni.toml", *flags)
        assert done.returncode == 1
        assert "shop has no 'configur' (did you mean 'configure'?)" in done.stdout
        assert "zca.zcml: there is no file" in done.stdout
        assert "Traceback" not in done.stdout


def test_check_broken_application(tmp_path: Path) -> None:
    """What the application's module raises comes out as it is."""
    write(tmp_path, OPEN + APP, shop="import a_module_that_is_missing\n")
    done = run_twistd(tmp_path, "-n", "oni", "--config", "oni.toml", "--check")
    assert done.returncode == 1
    assert "No module named 'a_module_that_is_missing'" in done.stdout
    assert "shop.py" in done.stdout


def test_check_zcml(tmp_path: Path) -> None:
    """A ZCML file is really loaded, and what is wrong in it is said without a traceback."""
    settings = f'{OPEN}[zca]\nname = "shop"\nzcml = "shop.zcml"\n'
    zcml = """<configure xmlns="http://namespaces.zope.org/zope"
           xmlns:oni="http://namespaces.oni/oni">
  <oni:eventHandler handler="shop.heard" phase="PHASE" dispatcher="shop" action="publish" />
</configure>
"""
    for phase, code, said in (
        ("after", 0, "oni.toml: the settings are right"),
        ("later", 1, "unknown phase 'later'"),
    ):
        write(tmp_path, settings, shop="def heard(act): pass\n")
        (tmp_path / "shop.zcml").write_text(zcml.replace("PHASE", phase), encoding="utf-8")
        done = run_twistd(tmp_path, "-n", "oni", "--config", "oni.toml", "--check")
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout
        assert "Traceback" not in done.stdout
    assert 'shop.zcml", line 3' in done.stdout


# --- Starting ---


def test_without_settings(tmp_path: Path) -> None:
    """Without a file the daemon serves its page, and lets nobody connect or publish."""
    with daemon(tmp_path, '[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n') as running:
        assert running.request("GET", "/")[0] == 200
        status, _, _ = running.request(
            "POST", "/api/publish", b"{}", {"X-API-Key": "", "Content-Type": "application/json"}
        )
        assert status in (401, 403, 404)
        with socket.socket() as outside:
            outside.settimeout(2)
            address = _other_address()
            if address is not None:
                assert outside.connect_ex((address, running.port)) != 0


def _other_address() -> str | None:
    """Give an address of this machine that is not loopback, without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = str(probe.getsockname()[0])
    return None if found.startswith("127.") else found


@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemonized"])
def test_taken_port(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A taken port fails the start with a clear line and an exit code."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = OPEN.replace("{port}", str(port)).replace("{key}", KEY)
        (tmp_path / "oni.toml").write_text(text, encoding="utf-8")
        done = run_twistd(tmp_path, *options, "oni", "--config", "oni.toml")
    said = f"server.listen = ['tcp:{port}:interface=127.0.0.1']"
    log = tmp_path / "twistd.log"

    def everything() -> str:
        return str(done.stdout) + (log.read_text(encoding="utf-8") if log.exists() else "")

    # In the background the child may still be writing when its parent has ended.
    wait_until(lambda: said in everything(), "the reason")
    assert done.returncode == 1
    assert re.search(rf"127\.0\.0\.1:{port}: .*Address already in use", done.stdout)
    assert "Traceback" not in done.stdout


def test_configure_that_fails(tmp_path: Path) -> None:
    """An application that fails to configure fails the start, with its own error."""
    write(tmp_path, OPEN + APP, shop="def configure(oni): oni.dispatcher.nonsense()\n")
    done = run_twistd(tmp_path, "-n", "--pidfile=", "oni", "--config", "oni.toml")
    assert done.returncode == 1
    assert "has no attribute 'nonsense'" in done.stdout


def test_crochet_does_not_start_a_second_reactor(tmp_path: Path) -> None:
    """A library that calls crochet's setup changes nothing: twistd runs the reactor."""
    shop = """
import crochet, threading
crochet.setup()
def configure(oni):
    assert not [t for t in threading.enumerate() if t.name == "CrochetReactor"]
    print("one reactor", flush=True)
"""
    with daemon(tmp_path, modules={"shop.py": shop}, more=APP) as running:
        assert "one reactor" in running.log()


# --- Ending ---

HANGING = {
    "deferred": """
from twisted.internet.defer import Deferred
def hang(act):
    print("hanging", flush=True)
    return Deferred(lambda d: None)
""",
    "deaf coroutine": """
from twisted.internet.defer import CancelledError, Deferred
async def hang(act):
    print("hanging", flush=True)
    while True:
        try:
            await Deferred()
        except CancelledError:
            pass
""",
    "thread": """
import time
from oni.dispatcher import in_thread
def sleep(act):
    print("hanging", flush=True)
    time.sleep(3600)
hang = in_thread(sleep)
""",
    "reactor": """
import time
def hang(act):
    print("hanging", flush=True)
    while True:
        time.sleep(1)
""",
}
CONFIGURE = """
def configure(oni):
    oni.dispatcher.add_event_handler(hang, "before", action="publish")
"""
BOUND = 1.0


@needs_websockets
@pytest.mark.parametrize("kind", HANGING)
def test_sigterm_with_a_hanging_handler(tmp_path: Path, kind: str) -> None:
    """SIGTERM ends the daemon within its bound, whatever a handler does."""
    settings = OPEN.replace("[auth]", f"stop_timeout = {BOUND}\n[auth]")
    with (
        daemon(
            tmp_path,
            settings,
            modules={"shop.py": HANGING[kind] + CONFIGURE},
            more=APP,
            tracebacks=True,
        ) as running,
        bare(running) as client,
    ):
        client.socket.send('{"id": 2, "publish": {"channel": "news", "data": 1}}')
        wait_until(lambda: "hanging" in running.log(), "the handler's turn")
        begun = time.monotonic()
        code = running.stop()
        took = time.monotonic() - begun
        assert took < BOUND + 3.0, running.log()
        if kind in ("deferred", "deaf coroutine"):
            assert code == ENDED, running.log()  # the client's end has cancelled it
        else:
            # It had to be ended; it says what every thread was doing.
            assert code == GIVEN_UP, running.log()
            assert "shop.py" in running.log()


@needs_websockets
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end(tmp_path: Path, number: int) -> None:
    """A daemon at rest ends at once, and tells its clients to come back."""
    with daemon(tmp_path) as running, bare(running) as client:
        assert "subscribe" in client.ask(id=2, subscribe={"channel": "news"})
        begun = time.monotonic()
        running.process.send_signal(number)
        assert client.closed_with() == (3001, "shutdown")
        assert running.process.wait(10) == -number
        assert time.monotonic() - begun < 5.0
