"""Models with primary keys of every kind; a module of their own, so that they can be found."""

from __future__ import annotations

import enum
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What the models have in common."""


class Many(Base):
    """Has a primary key of many kinds."""

    __tablename__ = "many"

    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(primary_key=True)
    uuid: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    hour: Mapped[time] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2, asdecimal=True), primary_key=True)
    raw: Mapped[bytes] = mapped_column(primary_key=True)


class Size(enum.Enum):
    """What a driver knows nothing of."""

    SMALL = 1
    LARGE = 2


class Shelf(Base):
    """Has a member of an enumeration in its primary key."""

    __tablename__ = "shelf"

    size: Mapped[Size] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Outer:
    """Has a model inside."""

    class Inner(Base):
        """Is inside another class."""

        __tablename__ = "inner"

        id: Mapped[int] = mapped_column(primary_key=True)
