"""What only a real Redis shows: effects, limits, users, owners, and a server that goes away."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from oni.errors import (
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    StaleClaimError,
    UnsafeLedgerError,
)
from oni.ledger import store_for
from oni.ledger._group_commit import perform
from oni.ledger.redis import RedisStore
from oni.values import Claim, Handling, LedgerEvent
from tests.integration.proxy import Proxy, proxy
from tests.integration.redis_server import RedisServer, needs_redis, running_redis

pytestmark = [needs_redis, pytest.mark.timeout(120)]

ONE, TWO = "1" * 32, "2" * 32
WITHIN = 30.0  # seconds
LEASE = 10.0

numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Run one server for all of this."""
    with running_redis() as running:
        yield running


@pytest.fixture
def redis_client(server: RedisServer) -> Iterator[redis.Redis]:
    """Give a client."""
    with server.client() as client:
        yield client


@pytest.fixture
def make(server: RedisServer) -> Iterator[Callable[..., RedisStore]]:
    """Give what opens stores, all of one namespace that is new."""
    namespace = f"s{next(numbers)}"
    made = []

    def make_store(url: str = "", **options: Any) -> RedisStore:
        made.append(RedisStore(url or server.url, namespace, **options))
        made[-1].open()
        return made[-1]

    yield make_store
    for store in made:
        store.close()


def admit(store: RedisStore, *keys: str, handlings: Sequence[Handling] = ()) -> None:
    """Admit keys."""
    chosen = tuple(handlings) or (Handling("mail", "transaction"),)
    with store.transaction() as transaction:
        for key in keys:
            transaction.admit(LedgerEvent(key, "g", b"payload", chosen))


def claim(store: RedisStore, limit: int = 64, owner: str = ONE) -> Sequence[Claim]:
    """Claim."""
    with store.transaction() as transaction:
        return transaction.claim(["mail"], limit, owner, LEASE)


def counted(store: RedisStore) -> dict[str, int]:
    """Count, without those that are none."""
    with store.transaction(read=True) as transaction:
        return {state: number for state, number in transaction.count().items() if number}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so: a server notices a little later what has happened."""
    waiting = threading.Event()
    for _ in range(int(WITHIN / 0.02)):
        if condition():
            return
        waiting.wait(0.02)
    raise AssertionError("it never was so")


# --- What is kept


def test_nothing_expires_and_all_is_in_one_slot(
    make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """No key has a time to live, and each one names the same slot; a pruned key leaves nothing."""
    before = set(redis_client.keys())
    store = make()
    admit(store, "a", "{b}", handlings=[Handling("mail"), Handling("log", rank=1)])
    first, _ = claim(store)
    with store.transaction() as transaction:
        transaction.complete(first)
        transaction.resolve("log", first.key, "done", "ann")
    names = set(redis_client.keys()) - before
    assert len(names) > 8
    assert {redis_client.ttl(name) for name in names} == {-1}
    assert {name.partition("}")[0] for name in names} == {f"oni:{{{store.namespace}"}
    with store.transaction() as transaction:
        assert transaction.prune(0.0, 10) == 1
    left = redis_client.keys(f"oni:{{{store.namespace}}}:[epo]:*")
    assert sorted(name[-4:] for name in left) == [":{b}"] * 2


def test_the_server_has_the_time(
    make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """Leases are reckoned on the server's clock."""
    store = make()
    admit(store, "k")
    before = redis_client.time()
    (mine,) = claim(store)
    after = redis_client.time()
    began = mine.delivery.lease_until - LEASE
    assert before[0] + before[1] / 1e6 - 1e-3 <= began <= after[0] + after[1] / 1e6 + 1e-3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "not JSON",
        lambda text: "{}",
        lambda text: "null",
        lambda text: '[1,"pending"]',
        lambda text: text.replace("pending", "odd"),
        lambda text: text.replace("[1,", "[2,", 1),
    ],
)
def test_what_is_anothers_is_left_alone(
    make: Callable[..., RedisStore], redis_client: redis.Redis, spoil: Callable[[str], str]
) -> None:
    """A row of another version, or one that cannot be read, is not touched; its neighbour is."""
    store = make()
    handlings = [Handling("mail"), Handling("push"), Handling("log", rank=1)]
    admit(store, "strange", handlings=handlings)
    admit(store, "well known", handlings=handlings)
    name = f"oni:{{{store.namespace}}}:e:strange"
    text = spoil(redis_client.hget(name, "d:mail"))
    redis_client.hset(name, "d:mail", text)
    (mine,) = claim(store, limit=1)
    assert mine.key == "well known"
    assert claim(store) == []
    with store.transaction() as transaction:
        transaction.complete(mine)
        assert list(transaction.deliveries("pending", "mail", 9)) == []
    with store.transaction() as transaction:
        for each in transaction.claim(["push"], 9, ONE, LEASE):
            transaction.complete(each)
    with store.transaction() as transaction:
        (log,) = transaction.claim(["log"], 9, ONE, LEASE)
        assert log.key == "well known", "the other one has to wait for what nobody can read"
        transaction.resolve("log", "strange", "done", "ann")
    with store.transaction() as transaction:
        assert transaction.prune(0.0, 9) == 0
        assert transaction.admit(LedgerEvent("strange", "g", b"payload")) == "duplicate"
    assert redis_client.hget(name, "d:mail") == text


def test_few_round_trips(make: Callable[..., RedisStore], redis_client: redis.Redis) -> None:
    """A group of 64 operations asks the server no more than a few times."""
    store = make()

    def asked(*operations: Callable[[Any], Any]) -> int:
        before = redis_client.info("commandstats")
        answers = perform(store, operations)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        after = redis_client.info("commandstats")
        return sum(
            after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
            for name in ("cmdstat_evalsha", "cmdstat_eval")
            if name in after
        )

    def admit_one(key: str) -> Callable[[Any], Any]:
        event = LedgerEvent(key, handlings=(Handling("mail"),))
        return lambda transaction: transaction.admit(event)

    assert asked(*[admit_one(f"k{number}") for number in range(64)]) <= 4
    assert asked(*[admit_one(f"k{number}") for number in range(32, 96)]) <= 4
    claims: list[Claim] = []
    assert asked(lambda t: claims.extend(t.claim(["mail"], 64, ONE, LEASE))) <= 3
    assert len(claims) == 64
    assert asked(*[lambda t, c=c: t.extend(c, LEASE) for c in claims]) <= 2
    assert asked(*[lambda t, c=c: t.complete(c) for c in claims]) <= 2
    assert counted(store) == {"done": 64, "pending": 32}


def test_side_by_side(make: Callable[..., RedisStore]) -> None:
    """Two that claim at the same time share what is there; what is given up is there again."""
    store, other = make(), make()
    admit(store, "a", "b", "c")
    with store.transaction() as mine, other.transaction() as theirs:
        first = mine.claim(["mail"], 2, ONE, LEASE)
        second = theirs.claim(["mail"], 2, TWO, LEASE)
    assert [len(first), len(second)] == [2, 1]
    assert {each.key for each in (*first, *second)} == {"a", "b", "c"}
    admit(store, "d")
    with pytest.raises(ZeroDivisionError), store.transaction() as mine:
        assert len(mine.claim(["mail"], 2, ONE, LEASE)) == 1
        raise ZeroDivisionError
    assert [each.key for each in claim(other)] == ["d"]


def test_somebody_else_was_faster(make: Callable[..., RedisStore]) -> None:
    """What was looked at and is not so any more lets a transaction fail, and be done again."""
    store, other = make(), make()
    admit(store, "k")
    (old,) = claim(store)
    with pytest.raises(StaleClaimError), store.transaction() as transaction:
        transaction.connection.queue("SET", f"{store.namespace}:effect", "1")
        transaction.complete(old)
        with other.transaction() as theirs:
            theirs.fail(old, "taken away", False, 0.0)
    assert counted(store) == {"pending": 1}
    admissions = perform(
        store, [lambda t: (t.admit(LedgerEvent("new")), admit(other, "new"))[0] for _ in (1,)]
    )
    assert admissions == ["conflict"], "the other one has another payload"


def test_one_surprise_after_the_other(make: Callable[..., RedisStore]) -> None:
    """What is found out when a group is done again is remembered with what was found before."""
    store = make()
    admit(store, *(f"k{number}" for number in range(4)))

    def admit_all(transaction: Any) -> Sequence[str]:
        told: list[str] = []
        for number in range(4):
            told.append(transaction.admit(LedgerEvent(f"k{number}", "g", b"payload")))
            if told[-1] != "duplicate":
                break
        return told

    assert perform(store, [admit_all]) == [["duplicate"] * 4]


def test_a_lease_that_was_made_longer(make: Callable[..., RedisStore]) -> None:
    """Who was seen to be silent, and has spoken since, keeps its delivery."""
    store, other = make(), make()
    admit(store, "k")
    (mine,) = claim(store)
    with other.transaction(read=True) as transaction:
        (seen,) = transaction.running()
    with store.transaction() as transaction:
        assert transaction.extend(mine, LEASE)
    assert perform(other, [lambda transaction: transaction.rescue(seen)]) == [False]
    with (
        pytest.raises(LedgerUnavailableError, match="somebody else"),
        other.transaction() as transaction,
    ):
        (seen,) = transaction.running()
        assert transaction.rescue(seen)
        with store.transaction() as theirs:
            assert theirs.extend(mine, LEASE)
    assert counted(store) == {"running": 1}


def test_another_owner_with_the_same_token(
    make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """A server that forgot a claim gives its token again; it is only the new owner's then."""
    store = make()
    admit(store, "k")
    (mine,) = claim(store)
    name = f"oni:{{{store.namespace}}}:e:k"
    kept = redis_client.hget(name, "d:mail")
    redis_client.hset(name, "d:mail", kept.replace(ONE, TWO))
    with pytest.raises(StaleClaimError), store.transaction() as transaction:
        transaction.complete(mine)
    (answer,) = perform(store, [lambda transaction: transaction.complete(mine)])
    assert answer.check(StaleClaimError)
    assert counted(store) == {"running": 1}


def test_one_among_many(make: Callable[..., RedisStore], redis_client: redis.Redis) -> None:
    """A handler's deliveries are found among many others', and the server is let go in between."""
    store = make()
    admit(store, "k")
    redis_client.zadd(
        f"oni:{{{store.namespace}}}:s:pending", {f"log/{n}": 1e12 + n for n in range(25_000)}
    )
    before = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    with store.transaction(read=True) as transaction:
        (found,) = transaction.deliveries("pending", "mail", 9)
    assert found.key == "k"
    calls = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert calls >= 3, "the server served nobody else for as long as it took"


# --- Effects


def test_a_command_that_fails_undoes_the_others(
    make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """Where one command of a handler fails, nothing of it all is kept: values and expiries."""
    store = make()
    names = {word: f"{word}:{{{store.namespace}}}" for word in ("old", "new", "list", "ttl")}
    redis_client.set(names["old"], "7")
    redis_client.rpush(names["list"], "a", "b")
    redis_client.set(names["ttl"], "x", ex=1000)
    admit(store, "k")
    (mine,) = claim(store)
    with (
        pytest.raises(LedgerTransactionError, match=r"command 6 .*, INCR, failed.*WRONGTYPE"),
        store.transaction() as transaction,
    ):
        queue = transaction.connection.queue
        queue("INCR", names["old"])
        queue("SET", names["new"], "1")
        queue("DEL", names["list"], names["old"])
        queue("PERSIST", names["ttl"])
        queue("SADD", names["list"], "c")
        queue("INCR", names["list"])
        transaction.complete(mine)
    assert redis_client.get(names["old"]) == "7"
    assert not redis_client.exists(names["new"])
    assert redis_client.lrange(names["list"], 0, -1) == ["a", "b"]
    assert 900 < redis_client.ttl(names["ttl"]) <= 1000
    assert counted(store) == {"running": 1}
    with store.transaction() as transaction:
        transaction.connection.queue("MSET", names["old"], 8, names["new"], b"\xff")
        transaction.complete(mine)
    assert redis_client.get(names["old"]) == "8"
    assert counted(store) == {"done": 1}


@pytest.mark.parametrize("rule", ["-restore", "-del"])
def test_users_who_may_not_undo(
    server: RedisServer, make: Callable[..., RedisStore], redis_client: redis.Redis, rule: str
) -> None:
    """Several commands are refused where they could not be undone; a single one is not."""
    with user(server, rule) as url:
        store = make(url)
        admit(store, "k")
        (mine,) = claim(store)
        name = f"a:{{{store.namespace}}}"
        with (
            pytest.raises(LedgerTransactionError, match="undo"),
            store.transaction() as transaction,
        ):
            transaction.connection.queue("SET", name, "1")
            transaction.connection.queue("INCR", name)
            transaction.complete(mine)
        assert (redis_client.exists(name), counted(store)) == (0, {"running": 1})
        with store.transaction() as transaction:
            transaction.connection.queue("SET", name, "1")
            transaction.complete(mine)
        assert counted(store) == {"done": 1}


def test_effects_end_with_their_transaction(make: Callable[..., RedisStore]) -> None:
    """What is queued too late is refused, and so is a transaction that has ended."""
    store = make()
    with store.transaction() as transaction:
        pass
    with pytest.raises(LedgerTransactionError, match="has ended"):
        transaction.connection.queue("INCR", "x")
    with pytest.raises(LedgerTransactionError, match="no open transaction"):
        store.join(transaction.connection)


# --- Servers that do not keep what they are given


def test_a_server_without_a_file(make: Callable[..., RedisStore]) -> None:
    """It is refused, unless that is wanted, and then the label says so."""
    with running_redis(appendonly="no") as forgetful:
        with pytest.raises(UnsafeLedgerError, match="appendonly is no"):
            make(forgetful.url)
        store = store_for(f"{forgetful.url}?best_effort=true")
        warnings = store.open()
        store.close()
        assert "appendonly is no" in warnings[0]
        assert store.label.endswith("; dedup=best-effort")


def test_a_server_that_forgets_keys(
    make: Callable[..., RedisStore], redis_client: redis.Redis, server: RedisServer
) -> None:
    """One that evicts keys is refused; a full one says so, changes nothing, and recovers."""
    store = make()
    admit(store, "before")
    try:
        redis_client.config_set("maxmemory", "1mb")
        for key in ("a", "b"):
            with pytest.raises(LedgerFullError):
                admit(store, key)
        assert counted(store) == {"pending": 1}
        with pytest.raises(LedgerFullError), store.transaction() as transaction:
            transaction.connection.queue("SET", "effect", "1")
        redis_client.config_set("maxmemory", "1gb")
        redis_client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(UnsafeLedgerError, match="allkeys-lru"):
            make()
    finally:
        redis_client.config_set("maxmemory", "0")
        redis_client.config_set("maxmemory-policy", "noeviction")
    admit(store, "a")
    assert counted(store) == {"pending": 2}


@contextmanager
def user(server: RedisServer, *rules: str) -> Iterator[str]:
    """Let there be a user who may do everything but what the rules say."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">guest", "~*", "&*",
                               "+@all", *rules)  # fmt: skip
        try:
            yield server.url.replace("redis://", "redis://guest:guest@")
        finally:
            client.execute_command("ACL", "DELUSER", "guest")


def test_users_who_may_not_look(server: RedisServer, make: Callable[..., RedisStore]) -> None:
    """Where CONFIG is forbidden INFO is asked; where both are, it is warned of."""
    with user(server, "-config") as url:
        store = make(url)
        (warning,) = store.open()
        assert "see appendfsync," in warning
        assert store.label == "effects once for Redis effects; else retry/park"
    with user(server, "-config", "-info") as url:
        (warning,) = make(url).open()
        assert "appendonly yes" in warning
    for rules in (["-evalsha", "-eval"], ["resetkeys", "~other:*"]):
        with user(server, *rules) as url, pytest.raises(UnsafeLedgerError, match="run"):
            make(url)


@pytest.mark.parametrize("rules", [("-unlink",), ("-zadd", "-@set")])
def test_users_who_may_not_go_on(
    server: RedisServer, make: Callable[..., RedisStore], rules: Sequence[str]
) -> None:
    """Who may not call what the scripts do is refused: they would be left half done."""
    with user(server, *rules) as url, pytest.raises(UnsafeLedgerError, match="half done") as told:
        make(url)
    assert rules[0].replace("-", "+") in str(told.value)


def test_a_user_as_the_docs_say(server: RedisServer, make: Callable[..., RedisStore]) -> None:
    """What the reference lists is enough, for everything."""
    text = (Path(__file__).parents[2] / "docs/reference/ledger.rst").read_text()
    (told,) = re.findall(r"^The user needs.*?\n\n", text, re.DOTALL | re.MULTILINE)
    rules = re.findall(r"\+[a-z|]+", told)
    make().close()
    with user(server, "-@all", "resetkeys", "~oni:*", "~{sold}*", *rules) as url:
        store = make(url)
        assert store.open() == []
        assert store.label == "effects once for Redis effects; else retry/park"
        admit(store, "k", "l")
        (first, second) = claim(store)
        with store.transaction() as transaction:
            for name in ("a", "b"):
                transaction.connection.queue("SET", f"{{sold}}{name}", "1")
            transaction.complete(first)
            transaction.fail(second, "no", True, None)
        with store.transaction() as transaction:
            transaction.resolve("mail", second.key, "done", "ann")
            assert transaction.show(second.key) is not None
            assert (transaction.lag(), list(transaction.ahead())) == (0.0, [])
            assert len(transaction.deliveries(None, None, 9)) == 2
            assert transaction.prune(0.0, 9) == 2


@pytest.mark.parametrize("rule", ["-client|list", "-client|setname"])
def test_users_who_cannot_be_seen(
    server: RedisServer, make: Callable[..., RedisStore], rule: str
) -> None:
    """Where owners cannot be seen the lease is all there is: they seem to live, to all others."""
    able = make()
    able.enter(TWO)
    with user(server, rule) as url:
        store = make(url)
        assert "; the lease finds the dead" in store.label
        assert any("+client|setname" in warning for warning in store.open())
        store.enter(ONE)
        assert store.is_alive(ONE)
        assert store.is_alive("3" * 32)
        assert able.is_alive(TWO)
        if rule == "-client|setname":
            assert able.is_alive(ONE), "it was taken for dead by one who can look"


# --- Owners


def test_owners_are_seen(make: Callable[..., RedisStore], redis_client: redis.Redis) -> None:
    """Each sees the other's owners, and that they are gone when their connection is."""
    store, other = make(), make()
    store.enter(ONE)
    assert other.is_alive(ONE)
    for each in redis_client.client_list():
        if each["name"] == f"oni-ledger-{ONE}":
            redis_client.client_kill_filter(_id=each["id"])
    eventually(lambda: not other.is_alive(ONE))
    with pytest.raises(LedgerUnavailableError):
        store.enter(ONE)
    store.enter(ONE)
    assert other.is_alive(ONE)
    assert store.is_alive(TWO), "after a loss everybody has time to come back"
    eventually(lambda: not store.is_alive(TWO))
    store.leave(ONE)
    assert not other.is_alive(ONE)


# --- A server that goes away


def test_killed_under_load(make: Callable[..., RedisStore]) -> None:
    """A server is killed again and again: each key has its effect once, and none is lost."""
    keys = [f"k{number}" for number in range(400)]
    with running_redis() as mortal:
        workers = [Worker(make(mortal.url), owner) for owner in (ONE, TWO)]
        admit(workers[0].store, *keys)
        threads = [threading.Thread(target=worker.work, daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        for done in (20, 60, 120):
            eventually(lambda done=done: sum(worker.done for worker in workers) >= done)  # type: ignore[misc]
            mortal.kill()
            mortal.start()
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        with mortal.client() as client:
            effects = client.lrange("effects", 0, -1)
        assert sorted(effects) == sorted(keys)
        assert counted(workers[0].store) == {"done": len(keys)}
        assert any(worker.losses for worker in workers)


class Worker:
    """Works until all is done.

    Attributes:
        store: Where.
        done: How much it has done.
        losses: How often the server did not answer.
    """

    def __init__(self, store: RedisStore, owner: str) -> None:
        self.store = store
        self.done = self.losses = 0
        self._owner = owner

    def work(self) -> None:
        """Do everything."""
        while True:
            try:
                claims = claim(self.store, 8, self._owner)
                if not claims and "pending" not in counted(self.store) and not self._rescue():
                    return
            except LedgerUnavailableError:
                self.losses += 1
                continue
            for each in claims:
                self._run(each)

    def _run(self, each: Claim) -> None:
        while True:
            try:
                with self.store.transaction() as transaction:
                    transaction.connection.queue("RPUSH", "effects", each.key)
                    transaction.complete(each)
                self.done += 1
                return
            except LedgerUnavailableError:
                self.losses += 1
            except StaleClaimError:
                return  # its answer was lost, or another one has taken it

    def _rescue(self) -> int:
        """Take what nobody was told that it has claimed, and maybe what others have."""
        with self.store.transaction() as transaction:
            running = transaction.running()
            for each in running:
                transaction.rescue(each)
        return len(running)


@contextmanager
def proxied(
    server: RedisServer,
) -> Iterator[tuple[Proxy, str, Callable[[Callable[[], None]], None]]]:
    """Put a wire that can be cut before a server; give it, its address, and how it is told."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    manager = proxy(server.port)

    def tell(function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), loop).result(WITHIN)

    made = asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result(WITHIN)
    try:
        yield made, server.url.replace(str(server.port), str(made.port)), tell
    finally:
        ended = manager.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(ended, loop).result(WITHIN)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WITHIN)
        loop.close()


def test_an_answer_that_is_lost(
    server: RedisServer, make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """Who does not hear whether its completion was kept asks again, and changes nothing."""
    effect = f"effect:{next(numbers)}"
    with proxied(server) as (wire, url, _):
        store = make(url)
        admit(store, "k")
        (mine,) = claim(store)

        def complete() -> None:
            with store.transaction() as transaction:
                transaction.connection.queue("INCR", effect)
                transaction.complete(mine)
                wire.budget = 0

        with pytest.raises(LedgerUnavailableError):
            complete()
        eventually(lambda: counted(store) == {"done": 1})
        with pytest.raises(StaleClaimError):
            complete()
        wire.budget = None
    assert redis_client.get(effect) == "1"


def test_a_server_out_of_reach(
    server: RedisServer, make: Callable[..., RedisStore], redis_client: redis.Redis
) -> None:
    """Nobody waits for a server for ever; what was not completed meanwhile left no effect."""
    effect = f"effect:{next(numbers)}"
    near = make()
    with proxied(server) as (wire, url, tell):
        far = make(url, socket_timeout=0.5, socket_connect_timeout=0.5)
        far.enter(ONE)
        admit(far, "k")
        (mine,) = claim(far)
        tell(wire.hold)
        with pytest.raises(LedgerUnavailableError), far.transaction() as transaction:
            transaction.connection.queue("INCR", effect)
            transaction.complete(mine)
        for operation in (lambda: far.enter(ONE), lambda: claim(far)):
            with pytest.raises(LedgerUnavailableError):
                operation()
        tell(wire.cut)
        eventually(lambda: not near.is_alive(ONE))
        with near.transaction() as transaction:
            assert [transaction.rescue(each) for each in transaction.running()] == [True]
        (theirs,) = claim(near, owner=TWO)
        tell(wire.release)
        with pytest.raises(StaleClaimError), far.transaction() as transaction:
            transaction.connection.queue("INCR", effect)
            transaction.complete(mine)
        with near.transaction() as transaction:
            transaction.connection.queue("INCR", effect)
            transaction.complete(theirs)
        far.enter(ONE)
        assert near.is_alive(ONE)
    assert redis_client.get(effect) == "1"
