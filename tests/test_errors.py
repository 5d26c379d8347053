"""Every public exception: its family, its text, its parts."""

from __future__ import annotations

import inspect
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni import errors
from oni.errors import UnkeptContextError
from oni.values import EventResult, PendingEvent

PENDING = PendingEvent("event", {}, "running", "during", ("handler",), 2.0)
RESULT = EventResult("event", {"user": "bob"})

# Each error as it is raised: its arguments, what a caller would catch, a part of its text, and
# the parts that it carries.
EXAMPLES: dict[str, tuple[tuple[Any, ...], type[Exception], str, dict[str, Any]]] = {
    "InvalidKeywordError": (("times", "taken"), ValueError, "'times'", {"keyword": "times"}),
    "UnknownKeywordError": (
        (["z", "b"], ["user", "role"]),
        ValueError,
        "unknown match spec keyword 'b', 'z'; allowed: 'user', 'role'",
        {"keywords": ("b", "z"), "allowed": ("user", "role")},
    ),
    "KeywordInUseError": (
        ("user", "handler 1: f", [1]),
        ValueError,
        "'user' is still used by handler 1: f",
        {"keyword": "user", "handler_ids": (1,)},
    ),
    "InvalidMatchSpecError": (("user", "no"), ValueError, "'user': no", {"keyword": "user"}),
    "UnhashableDetailError": (
        ("user", ["bob"]),
        TypeError,
        "'user' is a list, which is unhashable",
        {"keyword": "user"},
    ),
    "UnknownPhaseError": (
        ("x", ["a", "b"]),
        ValueError,
        "unknown phase 'x'; phases: 'a', 'b'",
        {"phase": "x", "phases": ("a", "b")},
    ),
    "InvalidPhaseError": (("no phase",), ValueError, "no phase", {}),
    "DuplicatePhaseError": (("a",), ValueError, "already a phase 'a'", {"phase": "a"}),
    "PhaseInUseError": (
        ("a", "handler 1: f", [1]),
        ValueError,
        "'a' is still used by handler 1: f",
        {"phase": "a", "handler_ids": (1,)},
    ),
    "InvalidHandlerError": (
        (5, "it cannot be called"),
        TypeError,
        "5 cannot be an event handler: it cannot be called",
        {"handler": 5},
    ),
    "InvalidTimesError": ((0,), ValueError, "positive integer or None, not 0", {"times": 0}),
    "InvalidTimeoutError": (
        ("timeout", -1),
        ValueError,
        "timeout must be a positive number of seconds or None, not -1",
        {"name": "timeout", "value": -1},
    ),
    "UnknownHandlerError": ((7,), LookupError, "under id 7", {"handler_id": 7}),
    "EventAbortedError": (
        ("before", [Failure(ZeroDivisionError("zero"))], RESULT),
        errors.OniError,
        "in phase 'before': ZeroDivisionError: zero",
        {"phase": "before", "event": "event", "result": RESULT},
    ),
    "HandlerTimeoutError": (
        ("f", "during", 2.5),
        TimeoutError,
        "f in phase 'during' did not end within 2.5 s",
        {"handler": "f", "phase": "during", "seconds": 2.5},
    ),
    "EventCycleError": (
        ("event", ["a", "b"]),
        RuntimeError,
        "a, which waits for b",
        {"event": "event", "chain": ("a", "b")},
    ),
    "EventWaitTimeoutError": (
        ("event", 3.0),
        TimeoutError,
        "waited 3 s",
        {"event": "event", "seconds": 3.0},
    ),
    "EventNestingError": (
        ("event", 100),
        RecursionError,
        "a str was fired inside 100 events",
        {"event": "event", "limit": 100},
    ),
    "QueueFullError": (
        ("queue of x", 5),
        RuntimeError,
        "queue of x: 5 are waiting",
        {"queue": "queue of x", "limit": 5},
    ),
    "DispatcherStateError": (
        ("stopping", "wait"),
        RuntimeError,
        "is stopping: wait",
        {"state": "stopping"},
    ),
    "StopTimeoutError": (
        (2.0, [PENDING]),
        TimeoutError,
        "1 event(s) did not end within 2 s: str (running",
        {"seconds": 2.0, "hung": (PENDING,)},
    ),
    "WrongThreadError": ((), RuntimeError, "oni.blocking", {}),
    "CallTimeoutError": (
        ("fire_event", 2.0),
        TimeoutError,
        "fire_event() had no answer within 2 s",
        {"call": "fire_event", "seconds": 2.0},
    ),
    "NoDispatcherError": (
        ("x", ["b", "a"]),
        LookupError,
        "registered: 'a', 'b'",
        {"name": "x", "names": ("a", "b")},
    ),
    "LedgerKeyError": (("", "it is empty"), ValueError, "'' cannot be a key", {"key": ""}),
    "LedgerPayloadError": (
        ("k", 70_000, 65_536),
        ValueError,
        "payload of 'k' has 70000 bytes; at most 65536",
        {"key": "k", "size": 70_000, "limit": 65_536},
    ),
    "InvalidHandlingError": (("mail", "no"), ValueError, "'mail': no", {"handler": "mail"}),
    "StaleClaimError": (
        ("mail", "k", 3),
        RuntimeError,
        "claim 3 of handler 'mail' on 'k' does not hold",
        {"handler": "mail", "key": "k", "token": 3},
    ),
    "DeliveryStateError": (
        ("mail", "k", "running", "retried"),
        ValueError,
        "'mail' on 'k' is running, and cannot be retried",
        {"handler": "mail", "key": "k", "state": "running"},
    ),
    "UnknownDeliveryError": (
        ("mail", "k"),
        LookupError,
        "no delivery of 'k' to handler 'mail'",
        {"handler": "mail", "key": "k"},
    ),
    "LedgerTransactionError": (("it was committed",), RuntimeError, "it was committed", {}),
    "LedgerBusyError": ((9,), RuntimeError, "9 calls wait", {"limit": 9}),
    "LedgerUnavailableError": (("it is locked",), ConnectionError, "it is locked", {}),
    "LedgerFullError": (("the disk is full",), OSError, "the disk is full", {}),
    "LedgerCorruptError": (("it is damaged",), RuntimeError, "it is damaged", {}),
    "LedgerUrlError": (("x:", "unknown"), ValueError, "'x:' is no address", {"url": "x:"}),
    "UnsafeLedgerError": (
        (["it forgets"],),
        RuntimeError,
        "cannot keep what is promised:\n  it forgets",
        {"problems": ("it forgets",)},
    ),
    "LargeContextError": (
        ("k", "context.photo", "too large"),
        UnkeptContextError,
        "context.photo of the event 'k' cannot be kept: too large",
        {"key": "k", "field": "context.photo", "reason": "too large"},
    ),
    "UnkeptContextError": (
        ("k", "context.user", "it has no key"),
        ValueError,
        "context.user of the event 'k' cannot be kept: it has no key",
        {"key": "k", "field": "context.user", "reason": "it has no key"},
    ),
    "MissingRowError": (
        ("blog.Post", 7),
        LookupError,
        "blog.Post 7 cannot be loaded: the row is gone",
        {"model": "blog.Post", "id": 7},
    ),
    "NotNowError": (
        ("Redis", "no answer"),
        RuntimeError,
        "Redis cannot be used now: no answer",
        {"what": "Redis", "reason": "no answer"},
    ),
    "CascadeError": (
        (10, ["article", "tag"]),
        RuntimeError,
        "after 10 rounds subscribers still change article, tag",
        {"rounds": 10, "resources": ("article", "tag")},
    ),
    "OtherThreadError": (
        (),
        RuntimeError,
        "the request's transaction is another thread's: say what becomes of records in the "
        "thread that handles the request",
        {},
    ),
    "TransactionOverError": (
        (),
        RuntimeError,
        "the transaction is over, or being committed: say what becomes of records before that",
        {},
    ),
    "PoisonEventError": (
        ("k", "no JSON"),
        ValueError,
        "'k' cannot be read: no JSON",
        {"key": "k"},
    ),
    "GroupHandlerNameError": (
        ("a/b", "a slash"),
        ValueError,
        "'a/b' cannot be a group handler's name: a slash",
        {"name": "a/b"},
    ),
    "UnknownGroupHandlerError": (("a",), LookupError, "under the name 'a'", {"name": "a"}),
    "GroupMismatchError": (
        ("a", "^b", "c"),
        LookupError,
        "'a' is registered for '^b' by now",
        {"name": "a", "pattern": "^b", "group": "c"},
    ),
    "InvalidSourceError": ((5, "no"), TypeError, "5 cannot be a source", {"source": 5}),
    "AbortedPhaseError": (
        ("before", "check", "dead"),
        RuntimeError,
        "phase 'before' aborts the event: its handler 'check' is dead",
        {"phase": "before", "handler": "check"},
    ),
    "WatchError": (("no mapped class",), ValueError, "no mapped class", {}),
    "BulkChangeError": (
        ("blog.Post", "update"),
        RuntimeError,
        "update of blog.Post, which is watched: it changes rows without loading them",
        {"model": "blog.Post", "operation": "update"},
    ),
    "ChangeRoundsError": (
        (10, ["a", "b"]),
        RuntimeError,
        "after 10 rounds there still are new changes",
        {"rounds": 10, "names": ("a", "b")},
    ),
}


class ErrorTests(SynchronousTestCase):
    """What holds for all of them, and what each says."""

    def test_family(self) -> None:
        """All are an OniError, listed in alphabetical order, and say when they are raised."""
        self.assertEqual(errors.__all__, sorted(errors.__all__, key=str.lower))
        classes = {
            name
            for name, value in vars(errors).items()
            if inspect.isclass(value) and value.__module__ == errors.__name__
        }
        self.assertEqual(classes, set(errors.__all__))
        for name in classes:
            error = getattr(errors, name)
            self.assertTrue(issubclass(error, errors.OniError), name)
            self.assertTrue(inspect.getdoc(error), name)

    def test_examples(self) -> None:
        """Each has a built-in that a caller would catch, a text, and its parts."""
        for name, (arguments, family, text, parts) in EXAMPLES.items():
            error = getattr(errors, name)(*arguments)
            self.assertIsInstance(error, family, name)
            self.assertIn(text, str(error), name)
            for part, value in parts.items():
                self.assertEqual(getattr(error, part), value, f"{name}.{part}")

    def test_empty_lists(self) -> None:
        """Where nothing is allowed, the text says so."""
        self.assertIn("allowed: none", str(errors.UnknownKeywordError(["a"], [])))
        self.assertIn("registered: none", str(errors.NoDispatcherError("a", [])))

    def test_braces(self) -> None:
        """Braces and percent signs in names do no harm."""
        error = errors.UnknownKeywordError(["{a}%s"], ["{b}"])
        self.assertIn("'{a}%s'; allowed: '{b}'", str(error))

    def test_aborted_carries_every_failure(self) -> None:
        """An aborted event's error names and carries all its failures."""
        failures = [Failure(ValueError("one")), Failure(KeyError("two"))]
        error = errors.EventAbortedError("before", failures, RESULT)
        self.assertEqual(error.failures, tuple(failures))
        self.assertIn("ValueError: one; KeyError: 'two'", str(error))
