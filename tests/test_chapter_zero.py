"""Every failure that the programs before this one do not survive, with the test that Oni passes.

They are those of the watchers, of the listeners and of the events of resources; each is in a test
of its own, in the room that it is about or with real servers and processes.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LISTENERS = "listeners/test_chapter_zero.py::ChapterZeroTests"
WATCHERS = "watchers/test_chapter_zero.py::ChapterZeroTests"
REDIS = "integration/test_redis_listener.py::RedisTests"
KINTO = "listeners/test_chapter_zero_pyramid.py::KintoTests"
PYRAMID = "listeners/test_pyramid.py"
KINTO = "listeners/test_chapter_zero_pyramid.py::KintoTests"
SCENES = "integration/celery_scenes.py::BrokerScenes"  # with each of two brokers
DIRECT = "sources/test_sqlalchemy_direct.py::HandlerTests"
KILLED = "integration/test_chapter_zero.py::test_killed_process"

FAILURES = (
    # Events of resources
    (
        "in the transaction: the COMMIT itself fails",
        f"{LISTENERS}::test_a_commit_that_fails_itself",
    ),
    ("after it: death between COMMIT and hook", f"{LISTENERS}::test_killed_after_the_commit"),
    ("after it: death between COMMIT and hook, really", KILLED),
    ("after it: a hook that raises", f"{LISTENERS}::test_a_hook_that_raises"),
    (
        "merging: a batch names only its first record",
        f"{LISTENERS}::test_a_batch_names_every_record",
    ),
    ("cascades: a subscriber that always emits", f"{LISTENERS}::test_no_cascade_without_a_cap"),
    ("vetoes: somebody hears of what was vetoed", f"{LISTENERS}::test_vetoes"),
    # The same in Pyramid, with the transaction package's hooks
    ("Pyramid: called before the commit, ghosts", f"{KINTO}::test_listener_before_the_commit"),
    ("Pyramid: Redis down", f"{KINTO}::test_listener_swallows_that_redis_is_down"),
    ("Pyramid: no impacted records", f"{KINTO}::test_payload_without_records"),
    ("Pyramid: what cannot be serialised", f"{KINTO}::test_not_serialisable"),
    ("Pyramid: a batch names only its first", f"{KINTO}::test_a_batch_tells_of_the_first_only"),
    ("Pyramid: a subscriber that always emits", f"{KINTO}::test_cascade_without_a_cap"),
    ("Pyramid: death between COMMIT and hook", f"{KINTO}::test_death_between_commit_and_hook"),
    ("Pyramid: a hook that raises", f"{KINTO}::test_a_hook_that_raises"),
    ("Pyramid: the COMMIT itself fails", f"{PYRAMID}::VetoTests::test_a_commit_that_fails_itself"),
    ("Pyramid: an attempt that is repeated", f"{PYRAMID}::AttemptTests::test_tried_again"),
    ("Pyramid: vetoes", "listeners/test_pyramid_vetoes.py::VetoTests::test_all_or_nothing"),
    # Listeners
    ("called before the commit: ghosts", f"{LISTENERS}::test_no_listener_before_the_commit"),
    ("swallows what fails: events are lost", f"{LISTENERS}::test_redis_is_down"),
    ("Redis: down", f"{REDIS}::test_killed_and_back"),
    ("Redis: restarted without a file", f"{REDIS}::test_restarted_without_a_file"),
    ("Redis: nobody consumes", f"{LISTENERS}::test_the_queue_is_bounded"),
    ("Redis: the consumer crashes", f"{REDIS}::test_waiting"),
    ("Redis: what cannot be serialised is dropped", f"{LISTENERS}::test_not_serialisable"),
    ("Redis: no impacted records", f"{LISTENERS}::test_payload_with_records"),
    # Watchers: direct
    ("direct: rolled back after the call", f"{WATCHERS}::test_no_ghost_after_a_rollback"),
    (
        "direct: within the flush, cannot add objects",
        f"{WATCHERS}::test_no_watcher_inside_a_flush",
    ),
    ("in-thread: rolled back", f"{DIRECT}::test_rolled_back"),
    ("in-thread: savepoints", f"{DIRECT}::test_savepoints"),
    ("in-thread: cannot add objects", "watchers/test_direct.py::DirectTests::test_it_may_write"),
    # Watchers: threaded
    ("threaded: an exception kills the thread", f"{WATCHERS}::test_the_thread_survives"),
    ("threaded: producers fill the memory", f"{WATCHERS}::test_no_unbounded_queue"),
    (
        "threaded: what is queued is lost at the exit",
        f"{WATCHERS}::test_nothing_is_lost_at_the_exit",
    ),
    ("threaded: what is queued is lost in a crash", KILLED),
    ("threaded: before the row is visible", f"{WATCHERS}::test_the_thread_finds_the_row"),
    # Watchers: broker
    ("broker: before COMMIT, the row is missing", f"{WATCHERS}::test_the_row_is_there"),
    ("broker: after ROLLBACK", f"{WATCHERS}::test_no_ghost_after_a_rollback"),
    ("broker: other actions are dropped", f"{WATCHERS}::test_every_action_is_carried_on"),
    ("broker: down, the flush blocks", f"{WATCHERS}::test_a_broker_that_is_away_blocks_no_flush"),
    ("broker: down, really", f"{SCENES}::test_silent_then_away_then_killed"),
    ("broker: down for a minute", "integration/test_celery_outage.py::test_away_for_a_minute"),
    ("broker: the worker is killed", f"{SCENES}::test_a_killed_worker"),
    # Changes to websockets
    ("websocket: loses, cannot recover", f"{WATCHERS}::test_a_websocket_misses_nothing"),
    ("websocket: savepoints", f"{WATCHERS}::test_once_for_a_transaction_with_savepoints"),
)


@pytest.mark.parametrize(("failure", "test"), FAILURES, ids=[failure for failure, _ in FAILURES])
def test_failure_has_its_test(failure: str, test: str) -> None:
    """The test that is named for a failure is there."""
    file, *names = test.split("::")
    body = ast.parse((TESTS / file).read_text(encoding="utf-8")).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        ]
        assert found, f"{failure}: {file} has no {name}"
        body = found[0].body


def test_no_test_is_forgotten() -> None:
    """Each test of the files of that name is for one of the failures."""
    named = {test for _, test in FAILURES}
    for prefix in (LISTENERS, WATCHERS, KINTO):
        file, name = prefix.split("::")
        body = ast.parse((TESTS / file).read_text(encoding="utf-8")).body
        [cases] = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
        tests = [node.name for node in cases.body if isinstance(node, ast.FunctionDef)]
        for test in tests:
            assert not test.startswith("test_") or f"{prefix}::{test}" in named, test
