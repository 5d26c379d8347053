"""A process dies at each point that has a name, and another one goes on: what is seen then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from oni.ledger.sqlalchemy import prepare_engine
from oni.values import Delivery
from tests.integration.kill_harness.conductor import Conductor
from tests.integration.kill_harness.history import read
from tests.integration.kill_harness.places import Place, deliveries
from tests.integration.kill_harness.points import POINTS
from tests.integration.kill_harness.scenes import judged, scene
from tests.integration.kill_harness.servers import STORES, params, running
from tests.integration.kill_harness.worker import posts

pytestmark = pytest.mark.timeout(600)

KEY = "order/0"  # one that is paid for, too


@dataclass(frozen=True)
class Seen:
    """What is seen of one key when all is over, but for what an operator decides.

    Attributes:
        attempts: How often each handler was tried.
        mails: How many were sent.
        pays: How many there were.
        uncertain: Whether an operator has to decide about the payment.
    """

    attempts: dict[str, int]
    mails: int = 1
    pays: int = 1
    uncertain: bool = False


@pytest.fixture(scope="module", params=params())
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Give a place, which each test empties."""
    folder = tmp_path_factory.mktemp("place")
    with running(request.param, folder) as server:
        yield server.place


def seen(conductor: Conductor) -> Seen:
    """Give what is seen of the key."""
    found: dict[str, Delivery] = {each.handler: each for each in deliveries(conductor.place)}
    effects = Counter(line["handler"] for line in read(conductor.path) if line["what"] == "effect")
    return Seen(
        {name: each.attempts for name, each in sorted(found.items())},
        effects["mail"],
        effects["pay"],
        found["pay"].state == "uncertain",
    )


ONCE = {"book": 1, "mail": 1, "pay": 1}
AT = {
    "claim.before": Seen(ONCE),
    "claim.written": Seen(ONCE),
    "claim.committed": Seen({**ONCE, "book": 2}),
    "book.begun": Seen({**ONCE, "book": 2}),
    "book.written": Seen({**ONCE, "book": 2}),
    "complete.written": Seen({**ONCE, "book": 2}),
}
"""What is seen after a death at the first time of coming by these: ``book`` is the first one."""


def test_before_and_in_the_first_phase(place: Place, tmp_path: Path) -> None:
    """Whatever the first handler's process was at: its effect is there once."""
    for point, expected in AT.items():
        with scene(place, tmp_path / point) as conductor:
            conductor.offer(1)
            conductor.die_at(point)
            conductor.drain()
            assert (point, seen(conductor)) == (point, expected)
            assert not judged(conductor, 1).problems, point


def test_first_phase_done(place: Place, tmp_path: Path) -> None:
    """Who dies right after a completion has completed it. Another thread may have gone on."""
    with scene(place, tmp_path) as conductor:
        conductor.offer(1)
        conductor.die_at("complete.committed")
        conductor.drain()
        found = seen(conductor)
        assert (found.attempts["book"], found.attempts["pay"]) == (1, 1)
        assert found.attempts["mail"] in (1, 2)
        assert found.pays == 1 or found.uncertain
        assert not judged(conductor, 1).problems


def test_mail_sent(place: Place, tmp_path: Path) -> None:
    """Who dies between an effect elsewhere and its completion has it again: at least once."""
    for point, mails in (("mail.begun", 1), ("mail.sent", 2)):
        with scene(place, tmp_path / point) as conductor:
            conductor.offer(1)
            conductor.die_at(point)
            conductor.drain()
            found = seen(conductor)
            assert (found.attempts["book"], found.attempts["mail"], found.mails) == (1, 2, mails)
            assert not judged(conductor, 1).problems, point


def test_paid(place: Place, tmp_path: Path) -> None:
    """What must not happen twice is not tried again: an operator decides."""
    for point, pays in (("pay.begun", 0), ("pay.sent", 1)):
        with scene(place, tmp_path / point) as conductor:
            conductor.offer(1)
            conductor.die_at(point)
            conductor.drain()
            found = seen(conductor)
            assert (found.attempts["pay"], found.pays, found.uncertain) == (1, pays, True)
            assert not judged(conductor, 1).problems, point


def test_rescuing(place: Place, tmp_path: Path) -> None:
    """Who dies while it takes something from a dead one has taken it, or has not."""
    for point, crashes in (("rescue.written", 1), ("rescue.committed", 1)):
        with scene(place, tmp_path / point) as conductor:
            conductor.offer(1)
            conductor.die_at("book.begun")
            conductor.die_at(point)
            conductor.drain()
            assert seen(conductor) == Seen({**ONCE, "book": 2})
            (book,) = (each for each in deliveries(place) if each.handler == "book")
            assert book.crashes == crashes
            assert not judged(conductor, 1).problems, point


def test_pruning(place: Place, tmp_path: Path) -> None:
    """Who dies while it forgets keys has forgotten each of them, or nothing of it."""
    points = {"prune.written": 4, "prune.committed": 0}
    if place.kind != "redis":  # where all is forgotten in one step
        points["prune.half"] = 4
    for point, left in points.items():
        with scene(place, tmp_path / point) as conductor:
            conductor.offer(4)
            conductor.drain()
            conductor.die_at(point, role="prune")
            assert len({each.key for each in deliveries(place)}) == left, point
            assert place.damage() == ""
            if left:
                assert not judged(conductor, 4).problems, point


def test_making_tables(place: Place, tmp_path: Path) -> None:
    """Who dies while it makes the tables leaves what the next one can go on with."""
    if place.kind == "redis":
        return  # there is nothing to be made
    with scene(place, tmp_path / "scene") as conductor:
        place.prepare()
        conductor.die_at("tables.half")
        place.open()
        conductor.offer(1)
        conductor.drain()
        assert not judged(conductor, 1).problems


def test_admitting(place: Place, tmp_path: Path) -> None:
    """A source that dies brings its events again: each key is admitted once."""
    for point, nth in (("admit.before", 3), ("admit.written", 3), ("admit.committed", 1)):
        with scene(place, tmp_path / point) as conductor:
            conductor.allow(6)
            conductor.die_at(point, nth, role="emit", keys=6)
            conductor.offer(6)
            conductor.drain()
            assert not judged(conductor, 6).problems, point
            assert {each.attempts for each in deliveries(place)} == {1}


def test_relaying(place: Place, tmp_path: Path) -> None:
    """What a program has saved arrives, whoever dies on the way, and nothing else does."""
    saves = {"save.written": 3, "save.committed": 4}
    for point in (*saves, "relay.admitted", "relay.removed"):
        program = f"sqlite:///{tmp_path}/{point}.db"
        with scene(place, tmp_path / point, keys=6, outbox=program) as conductor:
            engine = prepare_engine(sa.create_engine(program))
            if point in saves:
                conductor.die_at(point, 4, role="save")
                with engine.begin() as connection:
                    assert len(posts(connection)) == saves[point]
            conductor.wait_until_ended(conductor.start(role="save"))
            if point not in saves:
                conductor.die_at(point)
            conductor.start()
            conductor.wait_until_idle(lambda: is_relayed(engine))  # noqa: B023
            conductor.finish()
            assert not judged(conductor, 6).problems, point
            engine.dispose()


def is_relayed(engine: sa.Engine) -> bool:
    """Say whether nothing waits in the outbox."""
    with engine.begin() as connection:
        return not connection.exec_driver_sql("SELECT COUNT(*) FROM oni_outbox").scalar_one()


def test_every_name_is_tried() -> None:
    """No point that the ledger's tests name is left out here."""
    tried = {
        *AT,
        "complete.committed",
        "mail.sent",
        "rescue.written",
        "prune.written",
        "tables.half",
    }
    tried |= {"admit.committed", "relay.admitted"}
    assert set(POINTS.values()) == tried
    assert len(STORES) == 3
