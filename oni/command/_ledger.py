"""``oni ledger``: what is in a ledger, and an operator's decisions about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import click

from oni.command._failures import FAILED, CommandError
from oni.command._ledger_many import progress, prune_all, resolve_all
from oni.command._ledger_place import LedgerPlace, ledger_options, operator
from oni.command._ledger_show import print_counts, print_deliveries, print_record
from oni.command._options import DURATION, json_option
from oni.command._show import note, one_line
from oni.errors import LedgerKeyError
from oni.interfaces import ILedgerStore
from oni.ledger import pair_key
from oni.values import Delivery, DeliveryState

__all__ = ["ledger"]

_STATES: tuple[DeliveryState, ...] = ("uncertain", "dead", "running", "pending", "done")
_TODO = {
    "uncertain": "look whether it had its effect, then say `oni ledger done KEY` or "
    "`oni ledger retry KEY`",
    "dead": "mend what its last error says, then say `oni ledger retry KEY`",
}


@click.group(short_help="Look after a ledger.", no_args_is_help=False)
def ledger() -> None:
    """Look after a ledger: what waits, what went wrong, and what shall become of it.

    It works on the ledger's database itself, whether a daemon runs or not. Decisions are kept
    there, with the name of whoever made them.
    """


_group_option = click.option(
    "--group",
    "-g",
    metavar="GROUP",
    help="What is said as KEY is an id of this group, as oni.sources.event is given it.",
)
_handler_option = click.option("--handler", metavar="NAME", help="Only this handler's deliveries.")


@ledger.command(name="list", short_help="List deliveries, the worst first.")
@click.option("--state", type=click.Choice(_STATES), help="Only deliveries in this state.")
@_handler_option
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many, at most.",
)
@json_option
@ledger_options
def list_(
    state: DeliveryState | None, handler: str | None, limit: int, as_json: bool, place: LedgerPlace
) -> None:
    """List deliveries: those that wait for an operator first.

    First come uncertain and dead ones, then those that run or wait; those that are done only with
    --state done. In each state those come first whose state changed last. Columns with tabs
    between them: state, handler, key, attempts, since when, last error.
    """
    with place.open() as store:
        found, there_is_more = _find(store, state, handler, limit)
    print_deliveries(found, as_json)
    for name, todo in _TODO.items():
        number = sum(each.state == name for each in found)
        if number:
            note(f"{number} {name}: {todo}")
    if not found:
        note(_nothing(state, handler))
    if there_is_more:
        note(f"these are the first {limit}; --limit shows more")


def _find(
    store: ILedgerStore, state: DeliveryState | None, handler: str | None, limit: int
) -> tuple[list[Delivery], bool]:
    """Give so many deliveries, at most, and say whether there are more."""
    found: list[Delivery] = []
    with store.transaction(read=True) as transaction:
        for each in (state,) if state is not None else _STATES[:-1]:
            found += transaction.deliveries(each, handler, limit + 1 - len(found))
            if len(found) > limit:
                return found[:limit], True
    return found, False


@ledger.command(short_help="Show all that is known of a key.")
@click.argument("key")
@_group_option
@json_option
@ledger_options
def show(key: str, group: str | None, as_json: bool, place: LedgerPlace) -> None:
    """Show all that is known of KEY: its event, its deliveries, and what was decided.

    \b
      oni ledger show 17:challenge_created7 --config oni.toml
      oni ledger show --group challenge_created 7 --config oni.toml
    """  # noqa: D301 - click reads the \b
    (key,) = _keys([key], group)
    with place.open() as store, store.transaction(read=True) as transaction:
        record = transaction.show(key)
    if record is None:
        raise CommandError(f"the ledger does not know the key {key!r}")
    print_record(record, as_json)


_who_option = click.option(
    "--who", metavar="NAME", help="Who decides; without it, your login name."
)
_yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
_many_option = click.option(
    "--state",
    type=click.Choice(("dead", "uncertain")),
    help="Instead of a KEY: all deliveries of --handler in this state.",
)


@ledger.command(short_help="Let deliveries run again.")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@_group_option
@_handler_option
@_many_option
@_who_option
@_yes_option
@json_option
@ledger_options
def retry(
    keys: tuple[str, ...],
    group: str | None,
    handler: str | None,
    state: DeliveryState | None,
    who: str | None,
    yes: bool,
    as_json: bool,
    place: LedgerPlace,
) -> int:
    """Let dead and uncertain deliveries of each KEY run again, with new attempts.

    With --handler a delivery that is done or waits does, too. Of an uncertain one nobody knows
    whether it had its effect: it may have it a second time.

    \b
      oni ledger retry 17:challenge_created7 --config oni.toml
      oni ledger retry --handler shop.mail --state dead --config oni.toml
    """  # noqa: D301 - click reads the \b
    return _decide("retry", keys, group, handler, state, operator(who), yes, as_json, place)


@ledger.command(short_help="Let deliveries count as done.")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@_group_option
@_handler_option
@_many_option
@_who_option
@_yes_option
@json_option
@ledger_options
def done(
    keys: tuple[str, ...],
    group: str | None,
    handler: str | None,
    state: DeliveryState | None,
    who: str | None,
    yes: bool,
    as_json: bool,
    place: LedgerPlace,
) -> int:
    """Let dead and uncertain deliveries of each KEY count as done: they never run again.

    With --handler one that waits does, too.
    """
    return _decide("done", keys, group, handler, state, operator(who), yes, as_json, place)


def _decide(
    decision: Literal["done", "retry"],
    keys: Sequence[str],
    group: str | None,
    handler: str | None,
    state: DeliveryState | None,
    who: str,
    yes: bool,
    as_json: bool,
    place: LedgerPlace,
) -> int:
    """Decide about what is named, print what was decided, and say what was not."""
    if bool(keys) is (state is not None):
        raise click.UsageError("name what is meant: either keys, or --handler and --state")
    if state is not None and handler is None:
        raise click.UsageError("--state needs --handler: many are decided one handler at a time")
    with place.open() as store:
        if state is None:
            found, refused = _of_keys(store, _keys(keys, group), handler)
        else:
            found, refused = _all_of(store, state, handler), []
            if not found:
                note(_nothing(state, handler))
                return 0
            _ask(f"{_WORDS[decision]} {len(found)} {state} deliveries of {handler}?", yes)
        with progress(_WORDS[decision], len(found)) as bar:
            try:
                decided, more = resolve_all(store, found, decision, who, bar)
            except KeyboardInterrupt:
                note(f"{bar.done} of {len(found)} are decided")
                raise
    print_deliveries(decided, as_json)
    for why in (*refused, *more):
        click.echo(one_line(f"oni: {why}"), err=True)
    return FAILED if refused or more else 0


_WORDS = {"retry": "retry", "done": "count as done"}


def _nothing(state: DeliveryState | None, handler: str | None) -> str:
    whose = "" if handler is None else f" of {handler!r}"
    return f"no delivery{whose} {'waits or has failed' if state is None else f'is {state}'}"


def _of_keys(
    store: ILedgerStore, keys: Sequence[str], handler: str | None
) -> tuple[list[Delivery], list[str]]:
    """Find the deliveries that are meant, and say of which keys there are none."""
    found: list[Delivery] = []
    refused: list[str] = []
    with store.transaction(read=True) as transaction:
        for key in dict.fromkeys(keys):
            record = transaction.show(key)
            if record is None:
                refused.append(f"the ledger does not know the key {key!r}")
                continue
            meant = [
                each
                for each in record.deliveries
                if each.handler == handler or (handler is None and each.state in _TODO)
            ]
            found += meant
            if not meant:
                stand = ", ".join(f"{each.handler} is {each.state}" for each in record.deliveries)
                wanted = "dead or uncertain" if handler is None else f"for {handler!r}"
                refused.append(f"{key!r} has no delivery that is {wanted}: {stand or 'none'}")
    return found, refused


def _all_of(store: ILedgerStore, state: DeliveryState, handler: str | None) -> list[Delivery]:
    """Give all deliveries of a handler in a state, as they are now: what comes later stays."""
    with store.transaction(read=True) as transaction:
        return list(transaction.deliveries(state, handler, transaction.count()[state] + 1))


def _keys(said: Sequence[str], group: str | None) -> list[str]:
    try:
        return [each if group is None else pair_key(group, each) for each in said]
    except LedgerKeyError as error:
        raise click.UsageError(str(error)) from error


def _ask(question: str, yes: bool) -> None:
    """Ask a person, unless there was an answer already.

    Raises:
        CommandError: The answer is no.
    """
    if yes:
        return
    if not _can_ask():
        raise click.UsageError("say --yes: there is nobody to ask here")
    if not click.confirm(one_line(question), err=True):
        raise CommandError("nothing was changed")


def _can_ask() -> bool:
    """Say whether a person can answer."""
    return sys.stdin.isatty()


@ledger.command(short_help="Forget keys that are done.")
@click.option(
    "--older-than",
    type=DURATION,
    required=True,
    metavar="TIME",
    help="Only keys that all handlers have completed so long ago, like 90d.",
)
@_yes_option
@json_option
@ledger_options
def prune(older_than: float, yes: bool, as_json: bool, place: LedgerPlace) -> None:
    """Forget keys that every handler completed long ago.

    A forgotten key is a new one: if its event comes again, everything is done again. So the time
    is longer than any source may take to bring it again. What is dead or uncertain stays.
    """
    with place.open() as store:
        _ask(f"forget every key that has been done for {older_than:g} seconds?", yes)
        with progress("forget") as bar:
            try:
                forgotten = prune_all(store, older_than, bar)
            except KeyboardInterrupt:
                note(f"{bar.done} keys are forgotten")
                raise
    if as_json:
        click.echo(f'{{"forgotten":{forgotten}}}')
    else:
        click.echo(f"{forgotten} keys are forgotten")


@ledger.command(short_help="Count the deliveries in each state.")
@json_option
@ledger_options
def statistics(as_json: bool, place: LedgerPlace) -> None:
    """Count the deliveries in each state, and say for how long the first one has been due."""
    with place.open() as store, store.transaction(read=True) as transaction:
        counts, lag = transaction.count(), transaction.lag()
    print_counts(store.label, {state: counts[state] for state in _STATES}, lag, as_json)
