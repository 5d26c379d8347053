"""Notes: a resource, and who is told of what becomes of it. Nothing here speaks HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from oni.errors import EventAbortedError, Refused
from oni.ledger.sqlalchemy import metadata as ledger_tables
from oni.ledger.sqlalchemy import prepare_engine
from oni.listeners import ResourceChanged, ResourceEvents
from oni.server import Oni


class Base(DeclarativeBase):
    """What the models have in common."""


class Note(Base):
    """Something that somebody wants to remember."""

    __tablename__ = "note"
    __table_args__ = ({"sqlite_autoincrement": True},)  # no id is given twice

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    def record(self) -> dict[str, Any]:
        """Give what clients see of it."""
        return {"id": self.id, "text": self.text}


class Draft(msgspec.Struct):
    """What a client sends to make a note."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


def refuse_shouting(event: ResourceChanged) -> None:
    """Veto: this is called within the transaction, which is rolled back when it raises."""
    for record in event.impacted_records:
        if record["new"]["text"].isupper():
            raise Refused(403, "please do not shout")


class Notes:
    """The resource. Its methods block, and belong into threads; many may call at once.

    What cannot be done they refuse, with a status of HTTP's as the code.
    """

    def __init__(self, oni: Oni) -> None:
        """Keep notes in the database in which the settings have the ledger."""
        self._oni = oni
        engine = prepare_engine(sa.create_engine(oni.settings.ledger.url_in(oni.settings.folder)))
        for tables in (Base.metadata, ledger_tables):  # somebody may come before it is open
            tables.create_all(engine)
        self._sessions = sessionmaker(engine)
        self._readers = sessionmaker(engine.execution_options(oni_read=True))  # wait for nobody
        oni.resources.add_event_handler(
            refuse_shouting, "before", kind=ResourceChanged, resource_name="note", action="create"
        )

    def all(self) -> list[dict[str, Any]]:
        """Give all notes."""
        with self._readers() as session:
            return [note.record() for note in session.scalars(sa.select(Note).order_by(Note.id))]

    def get(self, id: str) -> dict[str, Any]:
        """Give one note."""
        with self._readers() as session:
            return find(session, id).record()

    def create(self, body: bytes) -> dict[str, Any]:
        """Make a note of what a client has sent."""
        try:
            draft = msgspec.json.decode(body, type=Draft)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, str(error)) from error
        with self._change() as (events, session):
            note = Note(text=draft.text)
            session.add(note)
            session.flush()  # now it has its id
            new = note.record()
            events.record("note", "create", id=note.id, uri=f"/notes/{note.id}", new=new)
            return new

    def delete(self, id: str) -> dict[str, Any]:
        """Delete a note, and give what it was."""
        with self._change() as (events, session):
            note = find(session, id)
            session.delete(note)
            old = note.record()
            events.record("note", "delete", id=note.id, uri=f"/notes/{note.id}", old=old)
            return old

    @contextmanager
    def _change(self) -> Iterator[tuple[ResourceEvents, Session]]:
        """Begin a transaction; what is recorded in it is told once it is committed."""
        try:
            with ResourceEvents.within(
                self._sessions.begin(), self._oni.resources, sources=self._oni.sources
            ) as begun:
                yield begun
        except EventAbortedError as error:
            error.failures[0].raiseException()  # what the subscriber has said


def find(session: Session, id: str) -> Note:
    """Find the note of an id, as it stands in a URL."""
    note = session.get(Note, int(id)) if re.fullmatch("[1-9][0-9]{0,17}", id) else None
    if note is None:
        raise Refused(404, "there is no such note")
    return note
