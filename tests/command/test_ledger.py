"""``oni ledger``: an operator looks at a ledger in a file, and decides."""

from __future__ import annotations

import getpass
import json
from typing import Any
from unittest import mock

from rich.progress import Progress

from oni.command import _ledger, _ledger_many, _ledger_place
from oni.errors import LedgerUnavailableError
from oni.interfaces import ILedgerStore
from oni.ledger import pair_key, store_for
from oni.ledger._states import STATES
from oni.values import Handling, LedgerEvent
from tests.command.cases import CommandTestCase, Ended


class LedgerTestCase(CommandTestCase):
    """A ledger in a file, with deliveries in all states, and settings that name it."""

    def setUp(self) -> None:
        """Make it."""
        super().setUp()
        self.url = f"sqlite:///{self.folder / 'ledger.db'}"
        self.settings = self.file("ledger.toml", '[ledger]\nurl = "sqlite:///ledger.db"\n')
        store = self.store()
        for state in STATES:
            self.admit(store, state)
        with store.transaction() as transaction:
            # The oldest change first.
            claims = {c.key: c for c in transaction.claim(["mail"], 64, "me", 10.0)}
            transaction.complete(claims["done"])
            transaction.fail(claims["dead"], "no\tsuch\x1b[2Jaddress", True, None)
            transaction.fail(claims["uncertain"], "it broke off", False, None)
            transaction.release(claims["pending"])

    def store(self) -> ILedgerStore:
        """Open the ledger."""
        store = store_for(self.url)
        store.open()
        self.addCleanup(store.close)
        return store

    def admit(self, store: ILedgerStore, *keys: str, payload: bytes = b'{"n": 1}') -> None:
        """Take events in; a key that is 'uncertain' is parked when it fails."""
        with store.transaction() as transaction:
            for key in keys:
                handling = Handling("mail", "park" if key == "uncertain" else "retry")
                transaction.admit(LedgerEvent(key, "challenge", payload, (handling,)))

    def states(self) -> dict[str, str]:
        """Give each key's state."""
        with self.store().transaction(read=True) as transaction:
            found = transaction.deliveries(None, None, 1000)
        return {each.key: each.state for each in found}

    def ledger(self, *arguments: str, data: str | None = None) -> Ended:
        """Run a command on it."""
        return self.oni("ledger", *arguments, env={"ONI_LEDGER_URL": self.url}, data=data)


class List(LedgerTestCase):
    """``oni ledger list``."""

    def test_the_worst_first(self) -> None:
        """Uncertain, dead, running, pending, and nothing that is done; then what to do."""
        ended = self.ledger("list")
        rows = [line.split("\t") for line in ended.out.splitlines()]
        self.assertEqual(["uncertain", "dead", "running", "pending"], [row[0] for row in rows])
        self.assertEqual(["mail", "uncertain", "1/5"], rows[0][1:4])
        self.assertRegex(rows[0][4], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
        self.assertEqual("it broke off", rows[0][5])
        self.assertIn("1 uncertain: look whether it had its effect", ended.err)
        self.assertIn("1 dead: mend what its last error says", ended.err)
        self.assertEqual(0, ended.code)

    def test_what_is_not_printable(self) -> None:
        """An error's text moves no cursor and makes no column."""
        (line,) = self.ledger("list", "--state", "dead").out.splitlines()
        self.assertEqual("no\\u0009such\\u001b[2Jaddress", line.split("\t")[5])

    def test_which(self) -> None:
        """A state, a handler and a limit choose."""
        self.assertEqual("done", self.ledger("list", "--state", "done").out.split("\t")[0])
        ended = self.ledger("list", "-n", "2")
        self.assertEqual(2, len(ended.out.splitlines()))
        self.assertIn("these are the first 2", ended.err)
        self.assertNotIn("--limit", self.ledger("list", "-n", "4").err)

    def test_nothing(self) -> None:
        """That there is nothing is said, where programs do not look."""
        ended = self.ledger("list", "--handler", "nobody")
        self.assert_line(ended, 0, "no delivery of 'nobody' waits or has failed")
        self.ledger("done", "dead")
        self.assert_line(self.ledger("list", "--state", "dead"), 0, "no delivery is dead")

    def test_json(self) -> None:
        """Programs get all that a delivery says."""
        lines = self.ledger("list", "--json").out.splitlines()
        first = json.loads(lines[0])
        self.assertEqual(
            ("uncertain", "mail", "park", 1, "it broke off"),
            tuple(first[k] for k in ("key", "handler", "on_crash", "attempts", "last_error")),
        )
        self.assertEqual(4, len(lines))

    def test_terminal(self) -> None:
        """A person gets a table with titles."""
        with mock.patch("oni.command._ledger_show.is_terminal", return_value=True):
            out = self.ledger("list").out
        self.assertIn("last error", out.splitlines()[0])
        self.assertIn("it broke off", out)
        self.assertNotIn("\x1b[2J", out)


class Which(LedgerTestCase):
    """Which ledger is meant."""

    def test_settings(self) -> None:
        """The settings file names it, relative to its own folder; the command line counts more."""
        self.assertEqual(4, len(self.oni("ledger", "list", "-c", self.settings).out.splitlines()))
        other = f"sqlite:///{self.folder / 'none.db'}"
        ended = self.oni("ledger", "list", "-c", self.settings, "--url", other)
        self.assert_line(ended, 1, "none.db: there is no such file; a process that has this")
        ended = self.oni("ledger", "list", "-c", self.settings, env={"ONI_LEDGER_URL": other})
        self.assertEqual(0, ended.code)

    def test_a_mistyped_name_makes_no_file(self) -> None:
        """A file that is not there is an error, and is not there afterwards."""
        path = self.folder / "leger.db"
        self.assert_line(self.oni("ledger", "list", "--url", f"sqlite:///{path}"), 1, "no such")
        self.assertFalse(path.exists())

    def test_mistakes(self) -> None:
        """Mistakes are one line."""
        self.assert_line(self.oni("ledger", "list"), 2, "ONI_LEDGER_URL")
        self.assert_line(self.oni("ledger", "list", "-c", self.config), 1, "no ledger.url")
        django = self.file("django.toml", '[sources]\ndjango_settings = "mysite"\n')
        self.assert_line(self.oni("ledger", "list", "-c", django), 1, "Django", "--url")
        self.assert_line(self.oni("ledger", "list", "--url", "memory:"), 1, "in memory")
        ended = self.oni("ledger", "list", "--url", "mysql://u:geheim@h/x")
        self.assert_line(ended, 1, "no address of a ledger")
        self.assertNotIn("geheim", ended.err)

    def test_namespace(self) -> None:
        """Of a server with several ledgers the right one is looked at."""
        text = '[ledger]\nurl = "redis://127.0.0.1:9/0"\nnamespace = "shop"\n'
        path, url = self.file("redis.toml", text), "redis://127.0.0.1:9/0"
        for arguments, namespace in (
            (("-c", path), "shop"),
            (("--url", url), "oni"),
            (("--url", url, "--namespace", "shop"), "shop"),
        ):
            made = mock.Mock(side_effect=LedgerUnavailableError("refused"))
            with self.subTest(arguments), mock.patch.object(_ledger_place, "store_for", made):
                self.oni("ledger", "list", *arguments)
                made.assert_called_once_with(url, namespace)

    def test_no_answer(self) -> None:
        """A database that does not answer is exit code 3."""
        away = mock.Mock(side_effect=LedgerUnavailableError("refused\n\tat 5432"))
        with mock.patch.object(_ledger_place, "store_for", away):
            self.assert_line(self.ledger("list"), 3, "the ledger does not answer: refused at 5432")

    def test_damaged_file(self) -> None:
        """A file that is no database is said in one line."""
        path = self.file("bad.db", "this is no database\n" * 100)
        self.assert_line(self.oni("ledger", "list", "--url", f"sqlite:///{path}"), 1, "bad.db")


class Show(LedgerTestCase):
    """``oni ledger show``."""

    def test_record(self) -> None:
        """It has the event, its deliveries, and what was decided about them."""
        self.ledger("retry", "dead", "--who", "ann")
        rows = [line.split("\t") for line in self.ledger("show", "dead").out.splitlines()]
        self.assertEqual(
            ["key", "group", "admitted", "payload", "delivery", "decision"],
            [row[0] for row in rows],
        )
        self.assertEqual('{"n":1}', rows[3][1])
        self.assertEqual("pending", rows[4][1])
        self.assertEqual(["retry", "mail", "was dead"], rows[5][1:4])
        self.assertEqual("ann", rows[5][5])

    def test_json(self) -> None:
        """Programs get one object, with the payload as it is."""
        found = json.loads(self.ledger("show", "done", "--json").out)
        self.assertEqual(
            ("done", "challenge", {"n": 1}), (found["key"], found["group"], found["payload"])
        )
        self.assertEqual("done", found["deliveries"][0]["state"])

    def test_payload_that_is_no_json(self) -> None:
        """Bytes of another kind are counted, and encoded for programs."""
        self.admit(self.store(), "odd", payload=b"\xff\0")
        self.assertIn("2 bytes that are no JSON", self.ledger("show", "odd").out)
        self.assertEqual(
            "/wA=", json.loads(self.ledger("show", "odd", "--json").out)["payload_base64"]
        )

    def test_group_and_id(self) -> None:
        """A key can be said as group and id."""
        self.admit(self.store(), pair_key("challenge", 7))
        self.assertIn("9:challenge7", self.ledger("show", "-g", "challenge", "7").out)

    def test_terminal(self) -> None:
        """A person gets the same in colours."""
        with mock.patch("oni.command._ledger_show.is_terminal", return_value=True):
            self.assertIn("it broke off", self.ledger("show", "uncertain").out)

    def test_unknown(self) -> None:
        """A key that nobody knows is an error."""
        self.assert_line(self.ledger("show", "x"), 1, "does not know the key 'x'")
        self.assert_line(self.ledger("show", "-g", "a", "x" * 255), 2, "255")


class Decide(LedgerTestCase):
    """``oni ledger retry`` and ``oni ledger done``."""

    def test_keys(self) -> None:
        """What is dead or uncertain runs again, or counts as done."""
        ended = self.ledger("retry", "dead")
        self.assertEqual((0, "pending"), (ended.code, ended.out.split("\t")[0]))
        self.assertEqual(0, self.ledger("done", "uncertain").code)
        states = self.states()
        self.assertEqual(("pending", "done"), (states["dead"], states["uncertain"]))

    def test_who(self) -> None:
        """The decision is kept with the login name, or the name that is said."""
        with mock.patch.dict("os.environ"):
            _ledger_place.os.environ.pop("SUDO_USER", None)
            self.ledger("retry", "dead")
        self.ledger("done", "dead", "--handler", "mail", "--who", "ann")
        with self.store().transaction(read=True) as transaction:
            record: Any = transaction.show("dead")
        self.assertEqual([getpass.getuser(), "ann"], [each.who for each in record.decisions])
        self.assert_line(self.ledger("retry", "dead", "--who", "a\nb"), 2, "--who")

    def test_under_sudo(self) -> None:
        """Whoever became root is still who decides."""
        with mock.patch.dict("os.environ", SUDO_USER="ann"):
            self.assertEqual("ann", _ledger_place.operator(None))

    def test_what_is_in_order_stays(self) -> None:
        """Without a handler's name only what went wrong is decided about; with it, more."""
        ended = self.ledger("retry", "done")
        self.assert_line(
            ended, 1, "'done' has no delivery that is dead or uncertain: mail is done"
        )
        self.assertEqual(0, self.ledger("retry", "done", "--handler", "mail").code)
        self.assertEqual("pending", self.states()["done"])
        ended = self.ledger("retry", "running", "--handler", "mail")
        self.assert_line(ended, 1, "running")
        self.assert_line(self.ledger("done", "dead", "--handler", "sms"), 1, "for 'sms'")

    def test_one_of_several(self) -> None:
        """One that cannot be had does not keep the others from it; the exit code says so."""
        ended = self.ledger("retry", "dead", "nobody", "uncertain")
        self.assertEqual(1, ended.code)
        self.assertEqual(2, len(ended.out.splitlines()))
        self.assertIn("does not know the key 'nobody'", ended.err)
        states = self.states()
        self.assertEqual(("pending", "pending"), (states["dead"], states["uncertain"]))

    def test_nothing_without_a_name(self) -> None:
        """What is meant is named: keys, or a state and a handler, and a yes."""
        for arguments, part in (
            ((), "name what is meant"),
            (("--handler", "mail"), "name what is meant"),
            (("dead", "--state", "dead", "--handler", "mail"), "name what is meant"),
            (("--state", "dead"), "--state needs --handler"),
            (("--state", "dead", "--handler", "mail"), "say --yes"),
        ):
            with self.subTest(arguments):
                self.assert_line(self.ledger("retry", *arguments), 2, part)
        self.assertEqual("dead", self.states()["dead"])

    def many(self) -> None:
        """Let a hundred more be dead."""
        store = self.store()
        self.admit(store, *(f"k{n}" for n in range(100)))
        with store.transaction() as transaction:
            for claim in transaction.claim(["mail"], 200, "me", 10.0):
                transaction.fail(claim, "no", True, None)

    def test_many(self) -> None:
        """All of a handler in one state, in groups."""
        self.many()
        ended = self.ledger("retry", "--state", "dead", "--handler", "mail", "--yes", "--json")
        self.assertEqual((0, 102), (ended.code, len(ended.out.splitlines())))
        self.assertNotIn("dead", self.states().values())

    def test_none(self) -> None:
        """Where there is nothing to decide, as with a mistyped name, that is said at once."""
        ended = self.ledger("retry", "--state", "dead", "--handler", "mial")
        self.assert_line(ended, 0, "no delivery of 'mial' is dead")

    def test_asking(self) -> None:
        """A person is asked; no means that nothing was changed."""
        words = ("done", "--state", "dead", "--handler", "mail")
        with mock.patch.object(_ledger, "_can_ask", lambda: True):
            ended = self.ledger(*words, data="n\n")
            self.assertEqual(1, ended.code)
            self.assertIn("count as done 1 dead deliveries of mail?", ended.err)
            self.assertIn("nothing was changed", ended.err)
            self.assertEqual("dead", self.states()["dead"])
            self.assertEqual(0, self.ledger(*words, data="y\n").code)
        self.assertEqual("done", self.states()["dead"])

    def test_what_changed_meanwhile(self) -> None:
        """One that somebody else decided about meanwhile is told of, and the others go on."""
        with self.store().transaction(read=True) as transaction:
            before = transaction.deliveries(None, None, 9)
        with _ledger_many.progress("retry", len(before)) as bar:
            decided, refused = _ledger_many.resolve_all(self.store(), before, "retry", "ann", bar)
        self.assertEqual({"done", "dead", "uncertain", "pending"}, {each.key for each in decided})
        self.assertEqual(1, len(refused))
        self.assertIn("running", refused[0])

    def test_interrupted(self) -> None:
        """Ctrl-C says how far it came, and what was decided by then stays."""
        self.many()
        with mock.patch.object(_ledger_many.Bar, "advance", autospec=True) as advance:

            def stop(bar: _ledger_many.Bar, number: int) -> None:
                bar.done += number
                raise KeyboardInterrupt

            advance.side_effect = stop
            ended = self.ledger("retry", "--state", "dead", "--handler", "mail", "--yes")
        self.assertEqual(130, ended.code)
        self.assertIn("64 of 102 are decided", ended.err)
        self.assertEqual(38, list(self.states().values()).count("dead"))

    def test_bar(self) -> None:
        """A person sees how far it is, where there is much to do."""
        seen: list[float] = []
        with (
            mock.patch.object(_ledger_many.sys.stderr, "isatty", lambda: True),
            mock.patch.object(Progress, "advance", lambda bar, task, by: seen.append(by)),
        ):
            for total in (100, 3, None):
                with _ledger_many.progress("retry", total) as bar:
                    bar.advance(3)
        self.assertEqual([3, 3], seen)


class Prune(LedgerTestCase):
    """``oni ledger prune``."""

    def test_old_keys(self) -> None:
        """Only what is done for long enough is forgotten."""
        self.assertEqual(
            "0 keys are forgotten\n", self.ledger("prune", "--older-than", "1d", "-y").out
        )
        self.assertEqual(
            '{"forgotten":1}\n', self.ledger("prune", "--older-than", "0", "-y", "--json").out
        )
        self.assertEqual(set(STATES) - {"done"}, set(self.states()))

    def test_more_than_one_transaction(self) -> None:
        """It goes on until nothing is left."""
        with mock.patch.object(_ledger_many, "_KEYS", 2):
            self.assertEqual(0, self.ledger("done", "dead", "uncertain").code)
            self.assertEqual(
                "3 keys are forgotten\n", self.ledger("prune", "--older-than", "0", "-y").out
            )

    def test_nothing_without_a_word(self) -> None:
        """It needs a time and a yes."""
        self.assert_line(self.ledger("prune"), 2, "--older-than")
        self.assert_line(self.ledger("prune", "--older-than", "0"), 2, "--yes")
        self.assertIn("done", self.states())

    def test_interrupted(self) -> None:
        """Ctrl-C says how far it came."""
        with mock.patch.object(_ledger, "prune_all", mock.Mock(side_effect=KeyboardInterrupt)):
            ended = self.ledger("prune", "--older-than", "0", "-y")
        self.assertEqual(130, ended.code)
        self.assertIn("0 keys are forgotten", ended.err)


class Statistics(LedgerTestCase):
    """``oni ledger statistics``."""

    def test_columns(self) -> None:
        """It counts each state, says what the store promises, and what waits longest."""
        rows = dict(line.split("\t") for line in self.ledger("statistics").out.splitlines())
        self.assertEqual("effects once", rows.pop("promises"))
        self.assertRegex(rows.pop("oldest due"), r"\A\d+\.\d s\Z")
        self.assertEqual(dict.fromkeys(STATES, "1"), rows)

    def test_json(self) -> None:
        """Programs get an object."""
        found = json.loads(self.ledger("statistics", "--json").out)
        self.assertEqual(dict.fromkeys(STATES, 1), found["deliveries"])
        self.assertTrue(found["oldest_due_seconds"] > 0)

    def test_terminal(self) -> None:
        """A person gets a table."""
        with mock.patch("oni.command._ledger_show.is_terminal", return_value=True):
            self.assertIn("oldest due", self.ledger("statistics").out)
