"""How deliveries and all that is known of a key are printed."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oni.command._show import compact, is_terminal, one_line
from oni.values import Decision, Delivery, LedgerRecord

__all__ = ["print_counts", "print_deliveries", "print_record", "time_text"]

_STYLES = {
    "uncertain": "bold magenta",
    "dead": "bold red",
    "running": "cyan",
    "pending": "yellow",
    "done": "green",
}


def time_text(seconds: float) -> str:
    """Give a time of the store's clock as people and programs read it."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, OSError, ValueError):  # a clock that nobody has set
        return f"{seconds:.0f}"


def _as_json(value: Any) -> str:
    return one_line(msgspec.json.encode(value).decode())


def _columns(delivery: Delivery) -> tuple[str, ...]:
    """Give what a line says of a delivery."""
    return (
        delivery.state,
        one_line(delivery.handler),
        one_line(delivery.key),
        f"{delivery.attempts}/{delivery.max_attempts}",
        time_text(delivery.changed_at),
        one_line(delivery.last_error),
    )


def print_deliveries(deliveries: Sequence[Delivery], as_json: bool) -> None:
    """Print deliveries, one a line: state, handler, key, attempts, since when, last error."""
    if as_json:
        for each in deliveries:
            print(_as_json(each))
    elif is_terminal():
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("state", "handler", "key", "attempts", "since", "last error"):
            table.add_column(title, overflow="fold")
        for each in deliveries:
            state, *rest = map(Text, _columns(each))
            state.stylize(_STYLES[each.state])
            table.add_row(state, *rest)
        Console(file=sys.stdout, highlight=False).print(table)
    else:
        for each in deliveries:
            print("\t".join(_columns(each)))


def print_counts(label: str, counts: Mapping[str, int], lag: float, as_json: bool) -> None:
    """Print how many deliveries there are in each state, and how long the first one has waited."""
    if as_json:
        print(_as_json({"label": label, "deliveries": counts, "oldest_due_seconds": lag}))
        return
    rows = [("promises", label), *((state, str(n)) for state, n in counts.items())]
    rows.append(("oldest due", f"{lag:.1f} s"))
    if is_terminal():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in rows:
            table.add_row(Text(name, style=_STYLES.get(name, "bold")), Text(one_line(value)))
        Console(file=sys.stdout, highlight=False).print(table)
        return
    for name, value in rows:
        print(f"{name}\t{one_line(value)}")


def print_record(record: LedgerRecord, as_json: bool) -> None:
    """Print all that is known of a key."""
    if as_json:
        print(_record_as_json(record))
        return
    rows: list[tuple[str, ...]] = [
        ("key", one_line(record.event.key)),
        ("group", one_line(record.event.group)),
        ("admitted", time_text(record.admitted_at)),
        ("payload", _payload_text(record.event.payload)),
        *(("delivery", *_columns(each)) for each in record.deliveries),
        *(_decision_row(each) for each in record.decisions),
    ]
    console = Console(file=sys.stdout, highlight=False) if is_terminal() else None
    for name, *values in rows:
        if console is None:
            print("\t".join((name, *values)))
        else:
            line = Text(f"{name:<10}", style="bold")
            line.append("  ".join(filter(None, values)), style="default")
            console.print(line, soft_wrap=True)


def _decision_row(decision: Decision) -> tuple[str, ...]:
    was = f"was {decision.was}"
    when, who = time_text(decision.at), one_line(decision.who)
    return ("decision", decision.decision, one_line(decision.handler), was, when, who)


def _record_as_json(record: LedgerRecord) -> str:
    payload = record.event.payload
    told: dict[str, Any] = {
        "key": record.event.key,
        "group": record.event.group,
        "admitted_at": record.admitted_at,
    }
    if _is_json(payload):
        told["payload"] = msgspec.Raw(payload)
    else:
        told["payload_base64"] = base64.b64encode(payload).decode()
    told["deliveries"] = record.deliveries
    told["decisions"] = record.decisions
    return compact(msgspec.json.encode(told))


def _payload_text(payload: bytes) -> str:
    return compact(payload) if _is_json(payload) else f"{len(payload)} bytes that are no JSON"


def _is_json(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
