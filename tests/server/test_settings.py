"""What a settings file may say, and how everything that is wrong in it is named at once."""

from __future__ import annotations

import os
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import SettingsError
from oni.server._settings import (
    ACT_PHASES,
    ChannelRules,
    ServerSettings,
    Settings,
    describe,
)
from oni.server._settings_file import load_settings, parse_settings, settings_from
from oni.values import Phase


class SettingsCase(SynchronousTestCase):
    """A test that looks at what is wrong."""

    def problems(self, text: str) -> tuple[str, ...]:
        """Give what is wrong with the text of a file."""
        return self.assertRaises(SettingsError, parse_settings, text).problems

    def assert_problem(self, text: str, *parts: str) -> None:
        """Expect one problem with these parts in its line."""
        problems = self.problems(text)
        self.assertEqual(1, len(problems), problems)
        for part in parts:
            self.assertIn(part, problems[0])


class Defaults(SettingsCase):
    """Without a file the daemon is safe, and useless on purpose."""

    def test_loopback_only(self) -> None:
        """It listens on loopback."""
        self.assertEqual(("tcp:8000:interface=127.0.0.1",), Settings().server.listen)

    def test_nobody_may_do_anything(self) -> None:
        """Nobody may connect, publish, subscribe or call the API."""
        settings = Settings()
        self.assertFalse(settings.auth.anonymous)
        self.assertIsNone(settings.api.key)
        self.assertEqual(ChannelRules(publish=False, subscribe=False), settings.rules_for("news"))
        self.assertIsNone(settings.rules_for("chat:1"))

    def test_an_empty_file_says_the_same(self) -> None:
        """An empty file changes nothing."""
        self.assertEqual(Settings(), parse_settings(""))

    def test_limits(self) -> None:
        """Every limit is finite, and is the one that the reference names."""
        server = ServerSettings()
        self.assertEqual(
            (65536, 16384, 1048576, 1000, 128),
            (
                server.max_message_bytes,
                server.max_request_head_bytes,
                server.max_body_bytes,
                server.max_connections,
                server.max_channels_per_connection,
            ),
        )
        self.assertEqual(
            (5.0, 10.0, 25, 10.0, 5.0, 10.0),
            (
                server.handshake_timeout,
                server.connect_timeout,
                server.ping_interval,
                server.pong_timeout,
                server.close_timeout,
                server.stop_timeout,
            ),
        )

    def test_phases(self) -> None:
        """The phases of an act: refuse, act, react."""
        before, during, after = Settings().dispatcher.phases
        self.assertEqual(Phase("before", on_error="abort", concurrent=False), before)
        self.assertEqual(Phase("during"), during)
        self.assertEqual(Phase("after", always=True, holds_turn=False), after)

    def test_no_warnings(self) -> None:
        """There is nothing to warn of."""
        self.assertEqual((), Settings().warnings())

    def test_values_cannot_be_changed(self) -> None:
        """Settings are what they are."""
        with self.assertRaises(AttributeError):
            Settings().server.listen = ()  # type: ignore[misc]


class Reading(SettingsCase):
    """What a file says is what the settings are."""

    def test_values(self) -> None:
        """Each section is read."""
        settings = parse_settings(
            """
            [server]
            listen = ["tcp:8001:interface=127.0.0.1", "unix:/run/oni.sock"]
            allowed_origins = ["https://example.org", "http://localhost:3000"]
            allowed_hosts = ["example.org", "[::1]"]
            max_message_bytes = 1024
            handshake_timeout = 2
            [auth]
            anonymous = true
            [api]
            key = "0123456789abcdef"
            [app]
            configure = "shop.events:setup.all"
            [zca]
            name = "shop"
            zcml = "shop.zcml"
            """,
            folder="/etc/shop",
        )
        self.assertEqual(
            ("tcp:8001:interface=127.0.0.1", "unix:/run/oni.sock"), settings.server.listen
        )
        self.assertEqual(
            ("https://example.org", "http://localhost:3000"), settings.server.allowed_origins
        )
        self.assertEqual(1024, settings.server.max_message_bytes)
        self.assertEqual(2.0, settings.server.handshake_timeout)
        self.assertTrue(settings.auth.anonymous)
        self.assertEqual("0123456789abcdef", settings.api.key)
        self.assertEqual("shop.events:setup.all", settings.app.configure)
        self.assertEqual(("shop", "shop.zcml"), (settings.zca.name, settings.zca.zcml))
        self.assertEqual("/etc/shop", settings.folder)

    def test_a_file(self) -> None:
        """A file's folder is remembered, absolute."""
        path = os.path.join(self.mktemp_folder(), "oni.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write('[zca]\nname = "é"\n')
        settings = load_settings(path)
        self.assertEqual("é", settings.zca.name)
        self.assertEqual(os.path.dirname(path), settings.folder)

    def mktemp_folder(self) -> str:
        """Make a folder that goes with the test."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def test_no_file(self) -> None:
        """A file that is not there is said to be so."""
        error = self.assertRaises(SettingsError, load_settings, "/nowhere/oni.toml")
        self.assertEqual(("/nowhere/oni.toml: No such file or directory",), error.problems)

    def test_not_utf8(self) -> None:
        """A file in another encoding is refused with its name."""
        path = os.path.join(self.mktemp_folder(), "oni.toml")
        with open(path, "wb") as file:
            file.write(b'[zca]\nname = "\xe9"\n')
        error = self.assertRaises(SettingsError, load_settings, path)
        self.assertIn("not UTF-8", error.problems[0])

    def test_not_toml(self) -> None:
        """A file that is not TOML is refused with the place."""
        self.assert_problem("[server\n", "not TOML", "line 1")

    def test_the_key_is_not_shown(self) -> None:
        """Whoever logs settings does not log the API's key."""
        settings = parse_settings('[api]\nkey = "0123456789abcdef"\n')
        self.assertNotIn("0123456789abcdef", repr(settings))


class Channels(SettingsCase):
    """Rules by namespace."""

    def test_namespaces(self) -> None:
        """The part before the first colon chooses; unknown namespaces have no rules."""
        settings = parse_settings("[channels.chat]\npublish = true\nsubscribe = true\n")
        rules = ChannelRules(publish=True, subscribe=True)
        self.assertEqual(rules, settings.rules_for("chat:room:1"))
        self.assertEqual(ChannelRules(), settings.rules_for("chat"))
        self.assertIsNone(settings.rules_for("other:1"))
        self.assertIsNone(settings.rules_for(":1"))

    def test_what_a_namespace_leaves_out(self) -> None:
        """What a namespace does not say comes from the defaults, what it says does not."""
        settings = parse_settings(
            """
            [channels]
            subscribe = true
            publish = true
            event_from = "type"
            [channels.quiet]
            publish = false
            """
        )
        self.assertEqual(
            ChannelRules(subscribe=True, publish=False, event_from="type"),
            settings.rules_for("quiet:1"),
        )

    def test_unknown_key(self) -> None:
        """A misspelt permission is refused, in the defaults and in a namespace."""
        self.assert_problem("[channels]\npublsh = true", "channels.publsh: unknown key", "publish")
        self.assert_problem(
            "[channels.chat]\nsubscibe = true",
            "channels.chat.subscibe: unknown key (did you mean 'subscribe'?)",
        )

    def test_wrong_type(self) -> None:
        """A permission is true or false, nothing that only looks so."""
        self.assert_problem(
            '[channels.chat]\npublish = "yes"',
            "channels.chat.publish: expected true or false or 'authenticated' or 'subscriber'",
            "got 'yes'",
        )
        self.assert_problem("[channels]\npublish = 1", "channels.publish", "got 1")

    def test_a_permission_that_is_a_table(self) -> None:
        """A table under a key's name is no namespace."""
        self.assert_problem(
            "[channels.publish]\nsubscribe = true",
            "channels.publish: expected true or false",
            "got a table",
        )

    def test_names(self) -> None:
        """A namespace that no channel name can name is refused."""
        self.assert_problem('[channels."a:b"]\npublish = true', "channels.a:b")

    def test_not_a_table(self) -> None:
        """The section is a table."""
        self.assert_problem("channels = true", "channels: expected a table, got true")


class Wrong(SettingsCase):
    """Everything that is wrong is named, with its path and what is allowed."""

    def test_all_at_once(self) -> None:
        """One error names all problems."""
        problems = self.problems(
            """
            [server]
            max_message_bytes = "big"
            listn = []
            [auth]
            anonymous = 1
            [dispatcher]
            order_by = ["usr"]
            [srver]
            """
        )
        self.assertEqual(5, len(problems), problems)
        text = "\n".join(problems)
        for part in (
            "server.max_message_bytes: expected an integer of 1 or more, got 'big'",
            "server.listn: unknown key (did you mean 'listen'?)",
            "auth.anonymous: expected true or false, got 1",
            "dispatcher.order_by: unknown keyword 'usr' (did you mean 'user'?)",
            "srver: unknown section (did you mean 'server'?)",
        ):
            self.assertIn(part, text)

    def test_the_message_has_all(self) -> None:
        """The error's text has a line for each problem."""
        error = self.assertRaises(SettingsError, parse_settings, "a = 1\n[b]\n")
        self.assertEqual(3, len(str(error).splitlines()))

    def test_endless_name(self) -> None:
        """A very long name is told by its beginning and what is wrong by its end."""
        name = "history_" + "tory_" * 1000
        told = self.problems(f"[channels.chat]\n{name} = 1")[0]
        self.assertEqual(1000, len(told))
        self.assertTrue(told.startswith("channels.chat.history_tory_"), told)
        self.assertIn("unknown", told[-395:])

    def test_unknown_section(self) -> None:
        """An unknown section is refused with the list of the known ones."""
        self.assert_problem(
            "[tokens]\nurl = 'memory:'",
            "tokens: unknown section; known: [server], [auth], [api], [admin], [channels]",
        )

    def test_key_outside_its_section(self) -> None:
        """A key at the top is told where it belongs."""
        self.assert_problem("anonymous = true", "did you mean 'anonymous' in [auth]?")

    def test_history(self) -> None:
        """Size and time belong together, and each mistake is named once."""
        self.assert_problem(
            "[channels]\nhistory_size = 3",
            "channels.history_ttl: expected a number above 0, as history_size is set",
        )
        self.assert_problem(
            "[channels]\nhistory_size = 3\n[channels.a]\n[channels.b]", "channels.history_ttl"
        )
        self.assert_problem(
            "[channels.a]\nhistory_ttl = 3", "channels.a.history_size", "as history_ttl is set"
        )
        self.assert_problem("[channels]\nhistory_size = -1", "an integer of 0 or more, got -1")
        self.assertEqual(
            2, len(self.problems("[channels]\nhistory_ttl = inf\nhistory_size=1\nmax_lag=inf"))
        )

    def test_behind(self) -> None:
        """What happens to slow readers is one of three, and its tag belongs to one of them."""
        self.assert_problem(
            "[channels]\nbehind = 'drop'", "channels.behind: expected", "'gap'", "'latest'"
        )
        self.assert_problem(
            "[channels]\nlatest_by = 'key'", "channels.latest_by: only behind = 'latest' uses it"
        )

    def test_backend(self) -> None:
        """A backend that there is not is named with those that there are."""
        self.assert_problem("[backend]\nurl = 'carrier-pigeon:'", "backend.url:", "memory")

    def test_section_that_is_no_table(self) -> None:
        """A section is a table."""
        self.assert_problem("server = 3", "server: expected a table, got 3")
        self.assert_problem("dispatcher = 3", "dispatcher: expected a table, got 3")

    def test_numbers(self) -> None:
        """Sizes are integers above zero, times are finite numbers above zero."""
        for text, got in (
            ("max_connections = 0", "got 0"),
            ("max_connections = 1.5", "got 1.5"),
            ("max_connections = true", "got true"),
            ("close_timeout = 0", "got 0"),
            ("close_timeout = -1.5", "got -1.5"),
            ("close_timeout = inf", "got inf"),
            ("close_timeout = nan", "got nan"),
            ("close_timeout = '5'", "got '5'"),
        ):
            with self.subTest(text):
                self.assert_problem(f"[server]\n{text}", f"server.{text.split()[0]}", got)

    def test_pong_before_the_next_ping(self) -> None:
        """The pong must come before the next ping."""
        self.assert_problem(
            "[server]\nping_interval = 5\npong_timeout = 5",
            "server.pong_timeout: expected less than server.ping_interval (5), got 5",
        )

    def test_a_wrong_time_is_named_once(self) -> None:
        """A wrong interval is not compared with anything."""
        self.assert_problem(
            "[server]\nping_interval = '60'\npong_timeout = 30", "server.ping_interval"
        )

    def test_entries_of_a_list(self) -> None:
        """A wrong entry is named by its place, and the others are still checked."""
        problems = self.problems('[server]\nlisten = ["tcp:x", 3]')
        self.assertEqual(2, len(problems), problems)
        self.assertEqual("server.listen[1]: expected a string, got 3", problems[0])
        self.assertIn("'tcp:x'", problems[1])

    def test_listen(self) -> None:
        """An endpoint description that none can listen on is refused."""
        for text in ("tcp:x", "bogus:1", "", "tcp:70000", "tcp:port=70000", "tcp"):
            with self.subTest(text):
                self.assert_problem(
                    f'[server]\nlisten = ["{text}"]',
                    "server.listen: expected an endpoint description",
                    repr(text),
                )

    def test_listen_nowhere(self) -> None:
        """A daemon that listens nowhere is refused."""
        self.assert_problem("[server]\nlisten = []", "a list of strings that is not empty")

    def test_origins(self) -> None:
        """An origin is scheme, host and port, and not a pattern."""
        for text in ("*", "null", "example.org", "https://example.org/", "HTTPS://X", "ws://x"):
            with self.subTest(text):
                self.assert_problem(
                    f'[server]\nallowed_origins = ["{text}"]',
                    "server.allowed_origins",
                    repr(text),
                )

    def test_hosts(self) -> None:
        """A host is a name without port."""
        for text in ("*", "example.org:80", "Example.org", "http://x", ""):
            with self.subTest(text):
                self.assert_problem(
                    f'[server]\nallowed_hosts = ["{text}"]', "server.allowed_hosts", repr(text)
                )

    def test_proxies(self) -> None:
        """Proxies are addresses, networks or unix; a network has no bits beyond its length."""
        for text in ("localhost", "10.0.0.1/8", "*", ""):
            with self.subTest(text):
                self.assert_problem(
                    f'[server]\ntrusted_proxies = ["{text}"]', "server.trusted_proxies", repr(text)
                )
        self.assertEqual(
            ("10.0.0.0/8", "::1", "unix"),
            parse_settings(
                '[server]\ntrusted_proxies = ["10.0.0.0/8", "::1", "unix"]'
            ).server.trusted_proxies,
        )

    def test_api_key(self) -> None:
        """A key that is short or cannot be a header is refused, and never repeated."""
        for text in ("short", "with spaces in the middle", "sixteen-or-more-é"):
            with self.subTest(text):
                self.assert_problem(f'[api]\nkey = "{text}"', "api.key: expected")
                self.assertNotIn(text, "".join(self.problems(f'[api]\nkey = "{text}"')))

    def test_configure(self) -> None:
        """An application is named as module:function."""
        for text in ("shop", "shop:", ":configure", "shop:1", "sh-op:configure", "a:b:c"):
            with self.subTest(text):
                self.assert_problem(
                    f'[app]\nconfigure = "{text}"', "app.configure: expected 'module:function'"
                )

    def test_long_values_are_cut(self) -> None:
        """A wrong value does not fill the screen."""
        self.assertLess(len(self.problems(f'[auth]\nanonymous = "{"x" * 9999}"')[0]), 200)


class Dispatcher(SettingsCase):
    """Keywords, phases and order of the server's dispatcher."""

    def test_keywords_are_added(self) -> None:
        """The details of an act are always allowed, once each."""
        settings = parse_settings(
            '[dispatcher]\nallowed_match_spec_keywords = ["role", "user"]\norder_by = ["role"]'
        )
        self.assertEqual(
            ("action", "channel", "namespace", "event", "user", "client", "role"),
            settings.dispatcher.keywords,
        )
        self.assertEqual(("role",), settings.dispatcher.order_by)

    def test_keywords_that_cannot_be(self) -> None:
        """A keyword is an identifier that a registration does not use itself."""
        for text in ("not one", "times", "use_weakref", "timeout"):
            with self.subTest(text):
                self.assert_problem(
                    f'[dispatcher]\nallowed_match_spec_keywords = ["{text}"]', repr(text)
                )

    def test_more_phases(self) -> None:
        """Other phases stand between the three, by name or as a table."""
        settings = parse_settings(
            """
            [dispatcher]
            phases = [
                "before",
                {name = "price", on_error = "abort", concurrent = false, timeout = 2},
                "during", "mail", "after",
            ]
            """
        )
        self.assertEqual(
            (
                ACT_PHASES[0],
                Phase("price", on_error="abort", concurrent=False, timeout=2.0),
                ACT_PHASES[1],
                Phase("mail"),
                ACT_PHASES[2],
            ),
            settings.dispatcher.phases,
        )

    def test_a_time_limit_for_a_phase_of_ours(self) -> None:
        """The three phases may get a time limit and keep all else."""
        settings = parse_settings(
            '[dispatcher]\nphases = [{name = "before", timeout = 3}, "during", "after"]'
        )
        self.assertEqual(
            Phase("before", on_error="abort", concurrent=False, timeout=3.0),
            settings.dispatcher.phases[0],
        )

    def test_the_three_stay(self) -> None:
        """Leaving one out, turning two round, or naming one twice is refused."""
        for text in ('"before", "during"', '"during", "before", "after"', '"x"'):
            with self.subTest(text):
                self.assert_problem(
                    f"[dispatcher]\nphases = [{text}]",
                    "'before', 'during', 'after' must be there, in this order",
                )
        self.assert_problem(
            '[dispatcher]\nphases = ["before", "during", "x", "x", "after"]',
            "dispatcher.phases: 'x' is there twice",
        )

    def test_the_three_keep_their_ways(self) -> None:
        """Nobody switches off that a refusal ends an act."""
        self.assert_problem(
            '[dispatcher]\nphases = [{name = "before", on_error = "continue"}, "during", "after"]',
            "dispatcher.phases[0].on_error: cannot be set for 'before'",
        )

    def test_wrong_phases(self) -> None:
        """What cannot be a phase is named by its place."""
        good = '"before", "during", "after"'
        for text, part in (
            ("3", "phases[3]: expected a name or a table, got 3"),
            ('""', "phases[3]: expected a name or a table"),
            ("{}", "phases[3].name: expected a string that is not empty, got nothing"),
            ('{name = "x", timeout = -1}', "phases[3].timeout: expected a number above 0"),
            ('{name = "x", timeout = inf}', "phases[3].timeout: expected a finite number"),
            ('{name = "x", on_error = "stop"}', "'abort' or 'continue', got 'stop'"),
            ('{name = "x", alwys = true}', "phases[3].alwys: unknown key (did you mean 'always'"),
        ):
            with self.subTest(text):
                self.assert_problem(f"[dispatcher]\nphases = [{good}, {text}]", part)
        self.assert_problem("[dispatcher]\nphases = 3", "expected a list of names or tables")


class Warnings(SettingsCase):
    """What is allowed but hardly meant is said at start."""

    def test_open_to_the_world(self) -> None:
        """Beyond loopback, the host names and anonymous clients are asked about."""
        settings = settings_from({"server": {"listen": ["tcp:8000"]}, "auth": {"anonymous": True}})
        hosts, anonymous = settings.warnings()
        self.assertIn("server.allowed_hosts", hosts)
        self.assertIn("auth.anonymous", anonymous)

    def test_decided(self) -> None:
        """Who has decided is not asked."""
        settings = settings_from(
            {"server": {"listen": ["tcp:8000"], "allowed_hosts": ["example.org"]}}
        )
        self.assertEqual((), settings.warnings())

    def test_loopback(self) -> None:
        """Loopback's addresses and sockets in the file system reach nobody else."""
        for text in (
            "tcp:1:interface=127.0.0.1",
            "tcp:1:interface=localhost",
            r"tcp6:1:interface=\\:\\:1",
            "unix:/run/oni.sock",
        ):
            with self.subTest(text):
                settings = settings_from(
                    {
                        "server": {"listen": [text.replace("\\\\", "\\")]},
                        "auth": {"anonymous": True},
                    }
                )
                self.assertEqual((), settings.warnings())


class Describe(SettingsCase):
    """Every key is described, for the help and the reference."""

    def test_every_key(self) -> None:
        """Each line has a kind and a sentence; every section is there."""
        infos = describe()
        for info in infos:
            with self.subTest(info.path):
                self.assertTrue(info.kind)
                self.assertTrue(info.help.endswith("."))
        self.assertEqual(
            [
                *("server", "auth", "api", "admin", "channels", "backend", "dispatcher"),
                *("running", "log", "metrics", "collector", "ledger", "sources", "listeners"),
                *("watchers", "app", "zca"),
            ],
            list(dict.fromkeys(info.path.partition(".")[0] for info in infos)),
        )

    def test_defaults_are_toml(self) -> None:
        """The default that is shown can be written into a file, and changes nothing."""
        lines = []
        for info in describe():
            section, _, key = info.path.partition(".")
            if info.default:
                lines.append(f"{section}.{key} = {info.default}")
        self.assertEqual(Settings(), parse_settings("\n".join(lines)))
