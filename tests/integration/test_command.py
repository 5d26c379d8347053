"""The command line against a real daemon, in processes of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import (
    KEY,
    RunningDaemon,
    daemon,
    environment,
    free_port,
    wait_until,
)

SECRET = "q8Zr2mV5xK0tYc7LwNf3HsJd9Gb4Pe1A"
KEPT = """\
[server]
listen = ["tcp:{port}:interface=127.0.0.1"]
[auth]
anonymous = true
hmac_secret = "{secret}"
[api]
key = "{key}"
[channels]
publish = true
subscribe = true
history_size = 1000
history_ttl = 600
[channels.closed]
subscribe = false
""".replace("{secret}", SECRET)
ONI = (sys.executable, "-m", "oni")


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Say where the daemon's settings are."""
    return tmp_path_factory.mktemp("daemon") / "oni.toml"


@pytest.fixture(scope="module")
def running(settings_file: Path) -> Iterator[RunningDaemon]:
    """Run a daemon that keeps what is published."""
    with daemon(settings_file.parent, KEPT) as found:
        settings_file.chmod(0o600)
        yield found


@pytest.fixture
def news(request: pytest.FixtureRequest) -> str:
    """Give a channel that no other test has."""
    return f"news-{request.node.name}"


def surroundings(running: RunningDaemon | None = None, **more: str) -> dict[str, str]:
    """Give an environment that names the daemon."""
    found = {k: v for k, v in environment().items() if not k.startswith("ONI_")}
    if running is not None:
        found.update(ONI_URL=running.address, ONI_API_KEY=KEY)
    return {**found, **more}


def oni(
    running: RunningDaemon | None, *arguments: str, data: bytes = b"", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    done = subprocess.run(
        [*ONI, *arguments],
        env=surroundings(running, **env),
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


class Tail:
    """A running ``oni sub``.

    Attributes:
        process: Its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def out(self) -> str:
        """What it has printed."""
        return (self._folder / "out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has said."""
        return (self._folder / "err").read_text(encoding="utf-8")

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines of output."""
        wait_until(lambda: self.out.count("\n") >= count, f"{count} lines", 30)
        return self.out.splitlines()

    def said(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so often."""
        wait_until(lambda: self.err.count(text) >= times, repr(text), 30)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal; give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def tail(
    folder: Path, running: RunningDaemon, *arguments: str, wait: bool = True, **env: str
) -> Iterator[Tail]:
    """Run ``oni sub`` while the block runs; it has subscribed when it begins."""
    folder = folder / f"tail-{time.monotonic_ns()}"
    folder.mkdir()
    with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
        process = subprocess.Popen(
            [*ONI, "sub", *arguments],
            env=surroundings(running, **env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    found = Tail(process, folder)
    try:
        if wait:
            found.said("subscribed to ")
        yield found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_publish_and_read(running: RunningDaemon, news: str) -> None:
    """What is published has a position, and is read back with it, whatever it holds."""
    data = {
        "name": "Gr\u00fc\u00dfe \u65e5\u672c \U0001f600",
        "text": "a\x1b[2J\u202e\n" + "x" * 5000,
    }
    first = oni(running, "pub", news, json.dumps(data), "-e", "hired", "-t", "a=b")
    assert (first.returncode, first.stderr) == (0, "")
    epoch, _, offset = first.stdout.strip().rpartition(":")
    assert epoch and offset == "1"
    second = oni(running, "pub", news, "-", "--text", "--json", data="hell\u00f6\n".encode())
    assert json.loads(second.stdout) == {"channel": news, "epoch": epoch, "offset": 2}
    read = oni(running, "history", news, "--json")
    found = [json.loads(line) for line in read.stdout.splitlines()]
    assert found == [
        {
            "channel": news,
            "epoch": epoch,
            "offset": 1,
            "event": "hired",
            "tags": {"a": "b"},
            "data": data,
        },
        {
            "channel": news,
            "epoch": epoch,
            "offset": 2,
            "event": "message",
            "tags": {},
            "data": "hell\u00f6",
        },
    ]
    for character in ("\x1b", "\u202e"):
        assert character not in read.stdout
    plain = oni(running, "history", news, "-n", "1").stdout
    assert plain == f'{news}\t{epoch}:2\tmessage\t"hell\u00f6"\n'


def test_a_locale_without_these_characters(running: RunningDaemon, news: str) -> None:
    """Where the output cannot show a character, it is escaped."""
    oni(running, "pub", news, '"gr\u00fc\u00dfe \u65e5"')
    done = oni(running, "history", news, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stdout.count("\\xfc")) == (0, 1)


def test_pages_of_history(running: RunningDaemon, news: str) -> None:
    """More than one page is read, in order, from both ends and from a position."""
    for number in range(0, 700, 100):
        commands = [{"publish": {"channel": news, "data": n}} for n in range(number, number + 100)]
        status, _, _ = running.request(
            "POST", "/api/batch", json.dumps({"commands": commands}).encode(), {"X-API-Key": KEY}
        )
        assert status == 200

    def numbers(*arguments: str) -> list[int]:
        done = oni(running, "history", news, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["data"] for line in done.stdout.splitlines()]

    assert numbers("-n", "0") == list(range(700))
    assert numbers() == list(range(680, 700))
    assert numbers("-n", "350", "--reverse") == list(range(699, 349, -1))
    first = json.loads(oni(running, "history", news, "--json", "-n", "1").stdout)
    place = f"{first['epoch']}:{350}"
    assert numbers("--since", place, "-n", "0") == list(range(350, 700))
    assert numbers("--since", place, "-n", "2", "--reverse") == [348, 347]
    wrong = oni(running, "history", news, "--since", "nothing:3")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "(112)" in wrong.stderr


def test_once_only(running: RunningDaemon, news: str) -> None:
    """The same key publishes once."""
    said = [oni(running, "pub", news, "1", "--idempotency-key", "k").stdout for _ in range(2)]
    assert said[0] == said[1] != ""


def test_refusals(running: RunningDaemon, news: str, tmp_path: Path) -> None:
    """What the daemon refuses is one line and exit code 1; what is no daemon, exit code 3."""
    cases: Sequence[tuple[int, str, subprocess.CompletedProcess[str]]] = (
        (1, "unknown channel (102)", oni(running, "pub", "x:y", "1")),
        (1, "does not take this key", oni(running, "pub", news, "1", ONI_API_KEY="k" * 16)),
        (1, "needs a key", oni(None, "history", news, "--url", running.address)),
        (3, "status 404", oni(running, "pub", "n", "1", "--url", f"{running.address}/nowhere")),
        (3, "cannot be reached", oni(None, "pub", "n", "1", "--url", "http://127.0.0.1:1")),
        (1, "closed:x: the daemon refuses: permission denied", oni(running, "sub", "closed:x")),
        (3, "cannot be reached", oni(None, "sub", "n", "--url", "http://127.0.0.1:1")),
        (1, "invalid token", oni(running, "sub", news, ONI_TOKEN="nonsense")),
    )
    for code, text, done in cases:
        assert (done.returncode, done.stdout) == (code, ""), done
        assert text in done.stderr, done
        assert "Traceback" not in done.stderr


def test_settings_file(
    running: RunningDaemon, news: str, tmp_path: Path, settings_file: Path
) -> None:
    """The daemon's own file has all that is needed; its warning-free check says so."""
    path = str(settings_file)
    assert oni(None, "pub", news, "1", "-c", path).returncode == 0
    checked = oni(None, "check-config", path, "--show")
    assert checked.returncode == 0
    assert SECRET not in checked.stdout and KEY not in checked.stdout


def test_key_is_not_in_the_process_list(running: RunningDaemon, news: str, tmp_path: Path) -> None:
    """With a key file, nothing of the key is on a command line."""
    path = tmp_path / "key"
    path.write_text(KEY)
    with tail(tmp_path, running, news, "--key-file", str(path)) as found:
        command = Path("/proc", str(found.process.pid), "cmdline").read_bytes()
        assert KEY.encode() not in command


def test_live_tail(running: RunningDaemon, news: str, tmp_path: Path) -> None:
    """It prints what is published as it comes; Ctrl-C ends it with how to go on."""
    with tail(tmp_path, running, news) as found:
        running.publish(news, {"n": 1}, "hired")
        (line,) = found.lines(1)
        channel, position, event, data = line.split("\t")
        assert (channel, event, data) == (news, "hired", '{"n":1}')
        assert found.end() == 0
        assert found.err.splitlines()[-1] == (
            f"oni: ended after 1 publication; go on with: --since {position}"
        )
        assert "Traceback" not in found.err
    running.publish(news, {"n": 2})
    with tail(tmp_path, running, news, "--since", position, "-n", "1", wait=False) as found:
        assert found.process.wait(30) == 0
        assert '{"n":2}' in found.out


def test_sigterm(running: RunningDaemon, news: str, tmp_path: Path) -> None:
    """A supervisor ends it as Ctrl-C does."""
    with tail(tmp_path, running, news) as found:
        assert found.end(signal.SIGTERM) == 0
        assert "ended after 0 publications" in found.err


def test_one_event(running: RunningDaemon, news: str, tmp_path: Path) -> None:
    """Only the publications of one event are printed, if that is wished."""
    with tail(tmp_path, running, news, "-e", "hired", "--json") as found:
        running.publish(news, 1, "fired")
        running.publish(news, 2, "hired")
        assert [json.loads(line)["data"] for line in found.lines(1)] == [2]


def test_as_a_user(running: RunningDaemon, news: str, tmp_path: Path, settings_file: Path) -> None:
    """With the settings' secret it connects as a user; a token from the command works, too."""
    path = str(settings_file)

    def users() -> int:
        _, answer, _ = running.request("POST", "/api/info", b"{}", {"X-API-Key": KEY})
        return int(json.loads(answer)["result"]["nodes"][0]["num_users"])

    made = oni(None, "token", "-u", "bob", "-c", path)
    token = made.stdout.strip()
    with (
        tail(tmp_path, running, news, "-c", path, "-u", "alice") as first,
        tail(tmp_path, running, news, ONI_TOKEN=token) as second,
    ):
        assert users() == 2
        assert (first.end(), second.end()) == (0, 0)


def test_restarted_daemon(tmp_path: Path) -> None:
    """When the daemon comes back it is heard again, and what is lost is said to be."""
    port = free_port()
    with daemon(tmp_path, KEPT, port=port) as first:
        found = tail(tmp_path, first, "news", "--json")
        tailing = found.__enter__()
        first.publish("news", 1)
        tailing.lines(1)
    try:
        tailing.said("trying again")
        with daemon(tmp_path, KEPT, port=port) as second:
            tailing.said("subscribed to news again")
            tailing.said("GAP in news")  # the memory of the first daemon is gone
            second.publish("news", 2)
            lines = [json.loads(line) for line in tailing.lines(3)]
            assert [line.get("data", line.get("gap")) for line in lines] == [1, True, 2]
            assert tailing.end() == 0
    finally:
        found.__exit__(None, None, None)


def test_recovery(running: RunningDaemon, news: str, tmp_path: Path, settings_file: Path) -> None:
    """What was published while it was disconnected is printed, each once and in order."""
    path = str(settings_file)
    with tail(tmp_path, running, news, "-c", path, "-u", "bob", "--json") as found:
        running.publish(news, 1)
        found.lines(1)
        body = json.dumps(
            {"user": "bob", "disconnect": {"code": 3011, "reason": "force"}}
        ).encode()
        status, _, _ = running.request("POST", "/api/disconnect", body, {"X-API-Key": KEY})
        assert status == 200
        for number in range(2, 8):
            running.publish(news, number)
        found.said(f"subscribed to {news} again")
        running.publish(news, 8)
        assert [json.loads(line)["data"] for line in found.lines(8)] == list(range(1, 9))
        assert "GAP" not in found.err


def test_closed_pipe(running: RunningDaemon, news: str) -> None:
    """`| head -1` gets its line; then the tail ends by itself, without a word of it."""
    command = " ".join([sys.executable, "-m", "oni", "sub", news, "-q"])
    shell = subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        env=surroundings(running),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def subscribed() -> bool:
        _, answer, _ = running.request("POST", "/api/channels", b"{}", {"X-API-Key": KEY})
        return news in json.loads(answer)["result"]["channels"]

    try:
        wait_until(subscribed, "the subscription", 30)
        running.publish(news, 1)
        out, err = shell.communicate(timeout=30)
    finally:
        if shell.poll() is None:
            shell.kill()
            shell.communicate()
    assert (shell.returncode, out.count("\n"), err) == (0, 1, "")


def test_history_into_a_closed_pipe(running: RunningDaemon, news: str) -> None:
    """So it is with what is printed at once."""
    commands = [{"publish": {"channel": news, "data": "x" * 2000}} for _ in range(200)]
    running.request(
        "POST", "/api/batch", json.dumps({"commands": commands}).encode(), {"X-API-Key": KEY}
    )
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"set -o pipefail; {sys.executable} -m oni history {news} -n 0 | head -n 1",
        ],
        env=surroundings(running),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def in_terminal(running: RunningDaemon, columns: int, *arguments: str) -> tuple[int, str]:
    """Run a command in a terminal of this width; give its exit code and all that it shows."""
    leader, follower = pty.openpty()
    env = surroundings(running, TERM="xterm", COLUMNS=str(columns), LINES="24")
    process = subprocess.Popen(
        [*ONI, *arguments], env=env, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                try:
                    data = os.read(leader, 65536)
                except OSError:  # nobody has the other end any more
                    break
                if not data:
                    break
                shown += data
        return process.wait(30), shown.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(leader)


@pytest.mark.parametrize("columns", [40, 200])
def test_terminal(
    running: RunningDaemon, news: str, columns: int, tmp_path: Path, settings_file: Path
) -> None:
    """On a terminal there are colours, and no table is wider than it is."""
    oni(running, "pub", news, '"' + "word " * 30 + '"', "-e", "hired")
    path = str(settings_file)
    os.chmod(path, 0o600)
    code, shown = in_terminal(running, columns, "history", news)
    assert code == 0
    assert "\x1b[" in shown and "hired" in shown
    for arguments in (("doctor", "-c", path), ("bench", "-m", "20", "-s", "2", "-c", path)):
        code, shown = in_terminal(running, columns, *arguments)
        assert code in (0, 1), shown
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert max(map(len, re.split(r"[\r\n]+", plain))) <= columns, plain
        assert "Traceback" not in plain


def test_bench(running: RunningDaemon) -> None:
    """It counts what it has sent and what has arrived, and measures both."""
    done = oni(running, "bench", "-s", "5", "-m", "50", "--size", "2000", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["published"], found["delivered"], found["missing"]) == (50, 250, 0)
    for kind in ("publish_ms", "delivery_ms"):
        times = [found[kind][name] for name in ("p50", "p95", "p99", "max")]
        assert times == sorted(times) and times[0] > 0
    assert found["deliveries_per_second"] > 0


def test_bench_of_many(tmp_path: Path) -> None:
    """More subscribers than the daemon greets in a second come one after the other."""
    limits = "max_handshakes_per_second = 10.0\nmax_connections_per_address = 50\n"
    settings = KEPT.replace("[auth]", f"{limits}[auth]")
    with daemon(tmp_path, settings) as few:
        done = oni(few, "bench", "-s", "12", "-m", "5", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert json.loads(done.stdout)["delivered"] == 60


def test_bench_that_cannot(running: RunningDaemon) -> None:
    """What makes it impossible is one line."""
    for code, text, done in (
        (1, "a subscriber is refused", oni(running, "bench", "--channel", "closed:x")),
        (1, "status 401", oni(running, "bench", "-m", "5", ONI_API_KEY="k" * 16)),
        (3, "cannot be reached", oni(None, "bench", "--url", "http://127.0.0.1:1")),
        (1, "a subscriber was lost", oni(running, "bench", "-s", "30", "-m", "1")),
    ):
        assert (done.returncode, text in done.stderr) == (code, True), done
        assert "Traceback" not in done.stderr


def test_bench_is_bounded(running: RunningDaemon) -> None:
    """At the time limit it ends with what there is, and says so."""
    done = oni(running, "bench", "-s", "2", "-m", "1000000", "--limit", "1s", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ended_early"]) == (1, "time limit")
    assert 0 < found["published"] < 1_000_000


def test_doctor(running: RunningDaemon, tmp_path: Path, settings_file: Path) -> None:
    """A sound daemon has no error but those of its settings' file."""
    path = settings_file
    path.chmod(0o600)
    done = oni(None, "doctor", "-c", str(path), "--json")
    rows = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
    for what in ("daemon", "api", "header guard", "hosts", "websocket", "foreign origins"):
        assert rows[what]["level"] == "ok", rows[what]
    assert rows["api.key"]["level"] == "warning"  # the tests' key is short
    assert KEY not in done.stdout and SECRET not in done.stdout


def test_completion() -> None:
    """The shell's completion knows the commands and their options."""
    env = {"_ONI_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "oni check"}
    done = oni(None, **env)
    assert done.stdout.split() == ["plain,check-config"]
    source = oni(None, _ONI_COMPLETE="bash_source")
    assert "complete" in source.stdout and source.returncode == 0


@pytest.mark.parametrize("module", ["click", "rich", "no_such_module"])
def test_without_the_extra(module: str) -> None:
    """Where click or rich is not installed, one line names the extra."""
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['oni', '--help'];"
        "import runpy; runpy.run_module('oni', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if module == "no_such_module":
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: oni")
    else:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "pip install 'oni-dispatcher[server]'" in done.stderr
