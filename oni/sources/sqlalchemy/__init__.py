"""Changes of SQLAlchemy's models become events, in the transaction that makes them.

:func:`watch` listens to the sessions of a ``sessionmaker``. What a transaction comes to is told to
those who may refuse before it is committed, and admitted into the ledger as a part of it; it is
delivered when it is committed, and never was when it is rolled back.

Not seen is what no session tells: statements to an engine or a connection, ``bulk_save_objects``
and the like, ``text()``, and what the database does by itself; :doc:`/reference/sqlalchemy_source`
has the whole table.
"""

from __future__ import annotations

from oni.sources.sqlalchemy._instances import Instances
from oni.sources.sqlalchemy._models import Watch
from oni.sources.sqlalchemy._references import SqlAlchemyReferences
from oni.sources.sqlalchemy._watching import Watching, watch

__all__ = ["Instances", "SqlAlchemyReferences", "Watch", "Watching", "watch"]
