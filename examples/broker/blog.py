"""A small blog, and who is told of its posts."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from oni.ledger.sqlalchemy import prepare_engine

FOLLOWERS = ("ann", "bob")

engine = prepare_engine(sa.create_engine("sqlite:///blog.db"))
sessions = sessionmaker(engine)


class Base(DeclarativeBase):
    """What the models have in common."""


class Post(Base):
    """Something new."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Notifications:
    """Tells followers of posts: in whichever process the settings say."""

    def processPostCreated(self, id: int) -> None:
        """Tell each of them. The post is committed, and found."""
        with sessions() as session:
            title = session.get_one(Post, id).title
        for user in FOLLOWERS:
            print(f"to {user}: {title}", flush=True)
