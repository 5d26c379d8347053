"""The blocking face with crochet and the real reactor, each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import os, sys, threading, time
from twisted.internet.defer import Deferred
from oni.blocking import BlockingEventDispatcher, setup
from oni.dispatcher import EventDispatcher, in_thread
from oni.errors import *

dispatcher = EventDispatcher(("kind",))
face = BlockingEventDispatcher(dispatcher, timeout=5.0)

def in_child(function):
    # Runs a function in a fork, and gives what it returned or raised.
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = repr(function())
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer
"""


def run(body: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; it must end well by itself."""
    done = subprocess.run(
        [sys.executable, *options, "-c", BEGIN + textwrap.dedent(body)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_calls_and_end() -> None:
    """Calls made right after setup are answered, and the process ends with its main thread."""
    done = run("""
        setup()
        setup()
        face.start()
        face.add_event_handler(lambda event: event * 2, "during", kind="number")
        print(face.fire_event(21, kind="number").values)
        """)
    assert (done.stdout, done.stderr) == ("(42,)\n", "")


@pytest.mark.parametrize("first", ["pass", "import crochet"])
def test_end_after_setup_in_a_daemon(first: str) -> None:
    """The process waits for what its reactor does at its end, if a daemon has set it up, too."""
    done = run(f"""
        ready = threading.Event()

        def say_goodbye():
            from twisted.internet import reactor
            ending = Deferred().addCallback(lambda _: print("in good order", flush=True))
            reactor.callLater(0.2, ending.callback, None)
            return ending

        def begin():
            {first}
            setup()
            from twisted.internet import reactor
            reactor.callFromThread(
                reactor.addSystemEventTrigger, "before", "shutdown", say_goodbye)
            reactor.callFromThread(ready.set)
            threading.Event().wait()

        threading.Thread(target=begin, daemon=True).start()
        assert ready.wait(30)
    """)
    assert done.stdout == "in good order\n"


def test_setup_that_fails_in_a_daemon() -> None:
    """What setup fails with is raised in the daemon's thread that calls it."""
    done = run("""
        sys.modules["crochet"] = None
        raised = []

        def begin():
            try:
                setup()
            except ImportError as error:
                raised.append(error.name)

        daemon = threading.Thread(target=begin, daemon=True)
        daemon.start()
        daemon.join(30)
        print(raised)
    """)
    assert done.stdout == "['crochet']\n"


def test_one_crossing_per_call() -> None:
    """Counted on the real reactor: ten events, ten crossings; a timeout needs a second one."""
    done = run("""
        setup()
        face.start()
        from twisted.internet import reactor
        from_thread, crossings = reactor.callFromThread, []
        def count(*args):
            crossings.append(args)
            return from_thread(*args)
        reactor.callFromThread = count
        async def handler(event):
            return event
        face.add_event_handler(handler, "during", kind="number")
        for number in range(9):
            face.fire_event(number, kind="number")
        print(len(crossings))
        try:
            BlockingEventDispatcher(dispatcher, timeout=0.05).next_event()
        except CallTimeoutError:
            print(len(crossings))
        reactor.callFromThread = from_thread
        """)
    assert done.stdout == "10\n12\n"


def test_timeout_logs_nothing() -> None:
    """A call that timed out is cancelled, and neither Python's log nor Twisted's tells of it."""
    done = run("""
        import logging, gc
        logging.basicConfig(level=logging.DEBUG)
        setup()
        face.start()
        cancelled = []
        hung = Deferred(lambda d: cancelled.append(threading.current_thread().name))
        face.add_event_handler(lambda event: hung, "during", times=1)
        impatient = BlockingEventDispatcher(dispatcher, timeout=0.1)
        try:
            impatient.fire_event("slow")
        except TimeoutError as error:
            print(type(error).__name__)
        gc.collect()
        print(len(face.fire_event("next")), cancelled, face.pending())
        """)
    assert done.stdout == "CallTimeoutError\n0 ['CrochetReactor'] []\n"
    assert "Unhandled" not in done.stderr and "Cancelled" not in done.stderr


def test_deprecation_warnings_as_errors() -> None:
    """A program that makes deprecations errors can use it: crochet's own stay out of the way."""
    done = run(
        """
        setup()
        face.start()
        face.add_event_handler(lambda event: event, "during")
        print(face.fire_event(1).values)
        """,
        "-W",
        "error::DeprecationWarning",
    )
    assert (done.stdout, done.stderr) == ("(1,)\n", "")


def test_crochet_set_up_by_somebody_else() -> None:
    """A program that calls crochet.setup() itself can call ours as well."""
    done = run("""
        import crochet
        crochet.setup()
        setup()
        face.start()
        print(len(face.fire_event(1)))
        """)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_reactor_run_by_the_program() -> None:
    """A Twisted program's own threads use it, with or without a call of setup."""
    done = run("""
        import crochet
        crochet.no_setup()
        setup()
        from twisted.internet import reactor
        from twisted.internet.threads import deferToThread
        dispatcher.start()
        def ask():
            return len(face.fire_event(1))
        def told(result):
            print(result)
            reactor.stop()
        reactor.callWhenRunning(lambda: deferToThread(ask).addBoth(told))
        reactor.run()
        try:
            face.pending()
        except NotRunningError as error:
            print(error)
        """)
    assert done.stdout.splitlines() == [
        "0",
        "pending() cannot be answered: the reactor has stopped",
    ]


def test_nested_from_a_pool_thread() -> None:
    """A handler in a pool thread fires through the face: nested, without waiting for itself."""
    done = run("""
        setup()
        face.start()
        def archive(event):
            return face.fire_event("inner", kind="inner").values
        face.add_event_handler(in_thread(archive), "during", kind="outer")
        face.add_event_handler(
            lambda event: [p.state for p in dispatcher.pending()], "during", kind="inner"
        )
        print(face.fire_event("outer", kind="outer").values)
        """)
    assert done.stdout == "((['running', 'nested'],),)\n"


def test_before_setup() -> None:
    """Without setup a call fails at once and says what to call."""
    done = run("""
        try:
            face.fire_event(1)
        except NotRunningError as error:
            print(error)
        """)
    assert "Call oni.blocking.setup() first" in done.stdout


def test_on_the_reactors_thread() -> None:
    """In a handler, which runs in the reactor's thread, it is an error, and no deadlock."""
    done = run("""
        setup()
        face.start()
        face.add_event_handler(lambda event: face.pending(), "during")
        print([f.type.__name__ for f in face.fire_event(1).failures])
        """)
    assert done.stdout == "['ReactorThreadError']\n"


def test_fork_after_setup() -> None:
    """In a fork every call, and setup, fails at once with the way out; the parent goes on."""
    done = run("""
        setup()
        face.start()
        started = time.monotonic()
        print(in_child(lambda: face.fire_event(1)))
        print(in_child(setup))
        assert time.monotonic() - started < 4
        print(len(face.fire_event(1)))
        """)
    call, again, parent = done.stdout.splitlines()
    for line in (call, again):
        assert line.startswith("ForkedProcessError: ")
        assert "Call oni.blocking.setup() in each process after the fork" in line
        assert "post_fork" in line
    assert parent == "0"


def test_setup_after_fork() -> None:
    """Each of two forks that call setup after the fork has a reactor of its own."""
    done = run("""
        dispatcher.start()
        dispatcher.add_event_handler(lambda event: event, "during", use_weakref=False)
        def work():
            setup()
            return face.fire_event(os.getpid()).values == (os.getpid(),)
        print(in_child(work), in_child(work))
        """)
    assert done.stdout == "True True\n"


def test_reactor_made_before_the_fork() -> None:
    """A reactor that was only imported shares its descriptors with the fork: refused as well."""
    done = run("""
        from twisted.internet import reactor
        print(in_child(setup))
        setup()
        face.start()
        print(len(face.fire_event(1)))
        """)
    child, parent = done.stdout.splitlines()
    assert child.startswith("ForkedProcessError: ")
    assert parent == "0"


def test_crochet_imported_before_the_fork() -> None:
    """Where Python can start crochet's threads after a fork it works, else it fails at once."""
    done = run("""
        import crochet
        dispatcher.start()
        def work():
            setup()
            return len(face.fire_event(1))
        print(in_child(work))
        """)
    if (3, 13) <= sys.version_info < (3, 13, 4):
        assert done.stdout.startswith("ForkedProcessError: crochet was imported before")
    else:
        assert done.stdout == "0\n"


def test_fork_of_a_program_that_uses_crochet_itself() -> None:
    """The fork of a program whose crochet.setup() we never saw is found out too."""
    done = run("""
        import crochet
        crochet.setup()
        from twisted.internet import reactor
        ready = threading.Event()
        reactor.callFromThread(ready.set)
        ready.wait(30)
        print(in_child(lambda: face.fire_event(1)))
        """)
    assert done.stdout.startswith("ForkedProcessError: ")


@pytest.mark.parametrize("signal_name", ["SIGINT"])
def test_interrupt(signal_name: str) -> None:
    """A program that waits can be interrupted, and what it waited for is cancelled."""
    done = run(f"""
        import signal
        signal.signal(signal.{signal_name}, signal.default_int_handler)
        setup()
        face.start()
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.{signal_name})).start()
        try:
            BlockingEventDispatcher(dispatcher, timeout=None).next_event()
        except KeyboardInterrupt:
            print("interrupted", list(face.handlers()))
        """)
    assert done.stdout == "interrupted []\n"
