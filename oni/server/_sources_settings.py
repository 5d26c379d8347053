"""``[sources]``: what turns changes into events, and where their handlers run."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from oni.server._ledger_settings import LedgerSettings
from oni.server._tables import article

__all__ = ["SourcesSettings", "sources_problems"]

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class SourcesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[sources]``: events that are handled once for each key. They need a ledger."""

    configure: Annotated[
        str | None,
        Meta(
            description="The function that registers group handlers and sources, as "
            "'module:function'. It is called once, with the EventSources, before anything is "
            "delivered. The module may lie beside the settings file."
        ),
    ] = None
    instances: Annotated[
        str | None,
        Meta(
            description="What gives the instances of a model for `oni sources process`, as "
            "'module:name': it is called with the model, and may have a method count. "
            "oni.sources.sqlalchemy.Instances makes one of a sessionmaker."
        ),
    ] = None
    deliver: Annotated[
        Literal["here", "worker"],
        Meta(
            description="Where handlers run. 'here': in the daemon, and in workers. 'worker': "
            "only in processes of `oni sources work`."
        ),
    ] = "here"
    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            description="Deliveries that are under way in one process at once, at most; each "
            "handler may have one more.",
        ),
    ] = 64
    threads: Annotated[
        int,
        Meta(ge=1, description="Threads of one process for handlers that may block, at most."),
    ] = 10
    outboxes: Annotated[
        tuple[str, ...],
        Meta(
            description="Databases of programs, as in ledger.url, that keep events in an outbox: "
            "the table oni_outbox. They are carried into the ledger from there."
        ),
    ] = ()
    django_settings: Annotated[
        str | None,
        Meta(
            description="The settings module of a Django project that has oni.sources.django "
            "among its apps, like 'mysite.settings'. Its sources and its ledger are used then, "
            "and what ONI in its settings says of them."
        ),
    ] = None


def sources_problems(sources: SourcesSettings, ledger: LedgerSettings) -> list[str]:
    """Say what is wrong with these settings that their types do not show."""
    problems = []
    configure, django = sources.configure, sources.django_settings
    for name in ("configure", "instances"):
        said = getattr(sources, name)
        if said is not None and not _FUNCTION.fullmatch(said):
            problems.append(f"sources.{name}: expected 'module:function', got {article(said)}")
    if django is not None and not _MODULE.fullmatch(django):
        problems.append(
            f"sources.django_settings: expected a module like 'mysite.settings', got "
            f"{article(django)}"
        )
    if django is not None:
        problems += [
            f"{section}.{name}: with sources.django_settings this is the Django project's "
            "matter; see ONI in its settings"
            for section, table, names in (
                ("ledger", ledger, ("url", "namespace", "lease", "workers", "max_waiting")),
                ("sources", sources, ("deliver", "concurrency", "threads", "outboxes")),
            )
            for name in names
            if getattr(table, name) != getattr(type(table)(), name)
        ]
    problems += [
        f"sources.outboxes: expected addresses like 'postgresql://user@host/database', got "
        f"{article(url.partition(':')[0] + ':...')}"
        for url in sources.outboxes
        if not url.startswith(("sqlite:", "sqlite+", "postgresql:", "postgresql+"))
    ]
    if sources.outboxes and django is None and ledger.url is None:
        problems.append("ledger.url: expected an address, as sources.outboxes needs a ledger")
    if configure is not None and django is None and ledger.url is None:
        problems.append("ledger.url: expected an address, as sources.configure needs a ledger")
    return problems
