"""A small blog: posts on topics, who follows a topic, and who was told of which post."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from oni.ledger.sqlalchemy import prepare_engine

engine = prepare_engine(sa.create_engine(f"sqlite:///{Path(__file__).with_name('blog.db')}"))
sessions = sessionmaker(engine)


class Base(DeclarativeBase):
    """What the models have in common."""


class Subscription(Base):
    """Somebody follows a topic."""

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str]
    topic: Mapped[str]


class Post(Base):
    """Something new on a topic."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    topic: Mapped[str]
    title: Mapped[str]


class Notification(Base):
    """Somebody was told of a post: once, whatever happens."""

    __tablename__ = "notification"
    __table_args__ = (sa.UniqueConstraint("user", "post_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str]
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("post.id"))


class NotificationSubscriptionDispatcher:
    """Tells subscribers of posts. ``oni.toml`` names it, and lets it have a thread."""

    def processPostCreated(self, id: int) -> None:
        """Make a notification for each subscriber. The post is committed, and found.

        It is called again if a process dies in the middle: who has a notification gets no other.
        """
        with sessions.begin() as session:
            post = session.get_one(Post, id)
            told = sa.select(Notification.user).where(Notification.post_id == id)
            followers = session.scalars(
                sa.select(Subscription.user)
                .where(Subscription.topic == post.topic, Subscription.user.not_in(told))
                .order_by(Subscription.user)
            ).all()
            session.add_all(Notification(user=user, post_id=id) for user in followers)
            title = post.title
        for user in followers:
            print(f"to {user}: {title}", flush=True)


def save_posts() -> None:
    """Do what a web application does. It knows nothing of notifications."""
    with sessions.begin() as session:
        if session.scalars(sa.select(Subscription)).first() is None:
            for user, topic in (("ann", "cats"), ("bob", "cats"), ("bob", "dogs")):
                session.add(Subscription(user=user, topic=topic))
    with sessions.begin() as session:
        session.add(Post(topic="cats", title="Whiskers"))
        session.add(Post(topic="dogs", title="Barking"))
        session.add(Post(topic="fish", title="Nobody follows these"))
    with sessions() as session:
        session.add(Post(topic="cats", title="Never mind"))
        session.flush()
        session.rollback()
