"""Mails about challenges that are kept with SQLAlchemy: one of each kind for each, ever.

Run it twice, and look at what it prints::

    python examples/sqlalchemy_mails/mails.py

Challenges and the ledger are in ``challenges.db``, in the folder that it is run in, or in the file
that is named. Whatever happens to the program, a mail that was due is sent when it runs again, and
none is due for a challenge that was not saved.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.sources import Event, EventSources, ModelChange, event
from oni.sources.sqlalchemy import SqlAlchemyReferences, watch

TODAY = date.today()


class Base(DeclarativeBase):
    """What the models have in common."""


class Challenge(Base):
    """Somebody wants to do something until some day."""

    __tablename__ = "challenge"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    mail: Mapped[str]
    start: Mapped[date]
    end: Mapped[date]


def events_from_challenge(challenge: Challenge) -> Iterator[Event]:
    """Say what there is to tell of a challenge. The same may be said again and again."""
    context = {"challenge": challenge}
    yield event("challenge_created", challenge.id, context)
    if (challenge.end - TODAY).days <= 2:
        yield event("challenge_ends_2d", challenge.id, context)
    if challenge.end < TODAY:
        yield event("challenge_ended", challenge.id, context)


def send_challenge_mail(event: Event) -> None:
    """Send a mail; this one is only printed. The challenge is freshly loaded."""
    challenge = event["context"]["challenge"]
    print(f"mail to {challenge.mail}: {event['group']} {challenge.title!r}", flush=True)


def log_change(event: Event) -> None:
    """Log what became of a row."""
    change = event["context"]["change"]
    columns = {name: (change.old[name], change.new[name]) for name in sorted(change.changed)}
    print(f"challenge {change.id} was {change.action}: {columns}", flush=True)


def refuse_backwards(session: Session, changes: Sequence[ModelChange]) -> None:
    """Let no challenge end before it begins: nothing of its transaction is kept then."""
    for change in changes:
        if change.new and change.new["end"] < change.new["start"]:
            raise ValueError(f"{change.new['title']!r} ends before it begins")


def save_challenges(sessions: sessionmaker[Session]) -> None:
    """Do what a program does. It knows nothing of events."""
    with sessions.begin() as session:
        first = session.get(Challenge, 1)
        if first is not None:  # the second time
            first.title = "Run 12 km"
            return
        long = timedelta(days=30)
        session.add(Challenge(title="Run 10 km", mail="ann", start=TODAY, end=TODAY + long))
        session.add(Challenge(title="Tidy up", mail="bob", start=TODAY, end=TODAY))
        try:
            with session.begin_nested():
                session.add(Challenge(title="Sing", mail="eve", start=TODAY, end=TODAY))
                raise RuntimeError("she has thought better of it")
        except RuntimeError as error:
            print(f"rolled back: {error}", flush=True)
    try:
        with sessions.begin() as session:
            session.add(Challenge(title="Rest", mail="joe", start=TODAY, end=TODAY - long))
    except ValueError as error:
        print(f"refused: {error}", flush=True)


async def run(reactor: Any, file: str) -> None:
    """Save challenges, and end when every mail is sent."""
    engine = prepare_engine(sa.create_engine(f"sqlite:///{file}"))
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    sources = EventSources(
        Ledger(SqlAlchemyStore(engine)), references=[SqlAlchemyReferences(sessions)]
    )
    sources.register_model_event_source(Challenge, events_from_challenge)
    sources.register_group_handler("^challenge_", send_challenge_mail, name="mails")
    sources.register_change_handler(Challenge, log_change, actions=["modified"], name="log")
    watch(sessions, sources, [Challenge], before_commit=[refuse_backwards])
    await sources.start()  # what an earlier run has left is delivered now
    await deferToThread(save_challenges, sessions)
    while (counted := await sources.ledger.count())["pending"] or counted["running"]:
        await deferLater(reactor, 0.05)
    await sources.stop()


def main() -> None:
    """Run it until it is done."""
    parser = argparse.ArgumentParser(description="Mails about challenges, one of each kind.")
    parser.add_argument("--file", default="challenges.db", help="where everything is kept")
    file = parser.parse_args().file
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, file)), [])


if __name__ == "__main__":
    main()
