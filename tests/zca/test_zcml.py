"""The ZCML directives, and what is said when they are wrong."""

from __future__ import annotations

import gc
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase
from zope.configuration import xmlconfig
from zope.configuration.config import ConfigurationMachine

import oni.zca
from oni.dispatcher import EventDispatcher, regex
from oni.errors import MissingExtraError, NoDispatcherError, OniError, ZcmlError
from oni.zca import get_dispatcher, load_zcml, provide, unprovide

HEARD: list[Any] = []
STARTS_WITH_B = regex("^b")
THREE = 3


def hear(event: Any) -> None:
    """Remember an event."""
    HEARD.append(event)


def hear_too(event: Any) -> None:
    """Remember an event twice."""
    HEARD.extend([event, event])


class ZcmlTestCase(SynchronousTestCase):
    """Loads ZCML from a directory of its own."""

    def setUp(self) -> None:
        """Make the directory; forget dispatchers and events at the end."""
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.addCleanup(HEARD.clear)
        for name in ("", "audit"):
            self.addCleanup(unprovide, name=name)

    def write(self, directives: str, name: str = "app.zcml") -> Path:
        """Write a file in which these directives stand from its third line on."""
        path = self.directory / name
        body = textwrap.dedent(directives).strip().replace("HERE", __name__)
        path.write_text(
            '<configure xmlns="http://namespaces.zope.org/zope"\n'
            '           xmlns:oni="http://namespaces.oni/oni">\n' + body + "\n</configure>\n"
        )
        return path

    def load(self, directives: str) -> None:
        """Load these directives."""
        load_zcml(self.write(directives))

    def refused(self, directives: str) -> str:
        """Load these directives and give the error's text."""
        with self.assertRaises(ZcmlError) as caught:
            self.load(directives)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertEqual(caught.exception.path, str(self.directory / "app.zcml"))
        return str(caught.exception)


class EventDispatcherTests(ZcmlTestCase):
    """``oni:eventDispatcher`` makes and registers a dispatcher."""

    def test_plain(self) -> None:
        """Without attributes it is the default one, started, under no name."""
        self.load("<oni:eventDispatcher />")
        dispatcher = get_dispatcher()
        self.assertIsInstance(dispatcher, EventDispatcher)
        self.assertEqual(dispatcher.state, "started")
        self.assertEqual([p.name for p in dispatcher.phases], ["before", "during", "after"])
        self.assertEqual(dispatcher.allowed_match_spec_keywords, ())

    def test_attributes(self) -> None:
        """Keywords, phases, order, name and start are as written."""
        self.load("""
            <oni:eventDispatcher name="audit" allowed_match_spec_keywords="user role"
                phases="check act" order_by="user" start="false" />
            """)
        dispatcher = get_dispatcher("audit")
        self.assertEqual(dispatcher.allowed_match_spec_keywords, ("user", "role"))
        self.assertEqual([p.name for p in dispatcher.phases], ["check", "act"])
        self.assertEqual(dispatcher._engine.turns.order_by, ("user",))
        self.assertEqual(dispatcher.state, "new")
        self.assertRaises(NoDispatcherError, get_dispatcher)

    def test_order(self) -> None:
        """One at a time by default, as in Python; ordered="false" is order_by=None."""
        self.load('<oni:eventDispatcher /><oni:eventDispatcher name="audit" ordered="no" />')
        self.assertEqual(get_dispatcher()._engine.turns.order_by, ())
        self.assertIsNone(get_dispatcher("audit")._engine.turns.order_by)

    def test_phases_with_options(self) -> None:
        """The subdirective phase names its options."""
        self.load("""
            <oni:eventDispatcher phases="first">
              <oni:phase name="check" on_error="abort" concurrent="false" timeout="2.5" />
              <oni:phase name="log" always="true" holds_turn="false" />
            </oni:eventDispatcher>
            """)
        first, check, log = get_dispatcher().phases
        self.assertEqual((first.name, first.on_error), ("first", "continue"))
        self.assertEqual(
            (check.name, check.on_error, check.concurrent, check.timeout, check.always),
            ("check", "abort", False, 2.5, False),
        )
        self.assertEqual((log.name, log.always, log.holds_turn), ("log", True, False))

    def test_two_under_one_name(self) -> None:
        """That is a conflict, which names both places."""
        text = self.refused("<oni:eventDispatcher />\n<oni:eventDispatcher />")
        self.assertIn("onflict", text)
        self.assertIn('app.zcml", line 3', text)
        self.assertIn('app.zcml", line 4', text)
        self.assertRaises(NoDispatcherError, get_dispatcher)

    def test_conflicts_with_utility(self) -> None:
        """So is a zope utility for the same interface and name."""
        text = self.refused("""
            <include package="zope.component" file="meta.zcml" />
            <utility factory="oni.dispatcher.EventDispatcher"
                     provides="oni.interfaces.IEventDispatcher" />
            <oni:eventDispatcher />
            """)
        self.assertIn("onflict", text)

    def test_name_that_is_taken(self) -> None:
        """A dispatcher that was registered before is not taken away."""
        for name in ("", "audit"):
            dispatcher = EventDispatcher()
            provide(dispatcher, name)
            text = self.refused(f'<oni:eventDispatcher name="{name}" />')
            self.assertIn('app.zcml", line 3', text)
            self.assertIn("already registered", text)
            self.assertIn(repr(name), text)
            self.assertIs(get_dispatcher(name), dispatcher)

    def test_including_file_wins(self) -> None:
        """A file overrides what the files that it includes say."""
        self.write('<oni:eventDispatcher phases="theirs" start="true" />', "theirs.zcml")
        self.load("""
            <include file="theirs.zcml" />
            <oni:eventDispatcher phases="ours" start="false" />
            """)
        dispatcher = get_dispatcher()
        self.assertEqual([p.name for p in dispatcher.phases], ["ours"])
        self.assertEqual(dispatcher.state, "new")


class EventHandlerTests(ZcmlTestCase):
    """``oni:eventHandler`` registers a handler strongly."""

    def fire(self, name: str = "", /, **details: Any) -> int:
        """Fire an event; say how many handlers it had."""
        return len(self.successResultOf(get_dispatcher(name).fire_event("event", **details)))

    def test_match_spec_in_attributes(self) -> None:
        """Further attributes are the match spec; also before the dispatcher's own directive."""
        self.load("""
            <oni:eventHandler handler="HERE.hear" phase="during" role="admin" />
            <oni:eventDispatcher allowed_match_spec_keywords="user role" />
            """)
        self.assertEqual(self.fire(role="user"), 0)
        self.assertEqual(self.fire(role="admin"), 1)
        self.assertEqual(HEARD, ["event"])

    def test_any_keyword_in_attributes(self) -> None:
        """A keyword may be called like an argument that only Python sees."""
        self.load("""
            <oni:eventDispatcher allowed_match_spec_keywords="self _context" />
            <oni:eventHandler handler="HERE.hear" phase="during" self="me" _context="here" />
            """)
        self.assertEqual(self.fire(self="me", _context="here"), 1)

    def test_is_strong(self) -> None:
        """The registration holds the handler."""
        self.load("""
            <oni:eventDispatcher />
            <oni:eventHandler handler="HERE.hear" phase="during" />
            """)
        gc.collect()
        (info,) = get_dispatcher().handlers()
        self.assertFalse(info.weak)

    def test_options(self) -> None:
        """The dispatcher's name, times and timeout are as written."""
        self.load("""
            <oni:eventDispatcher name="audit" />
            <oni:eventHandler handler="HERE.hear" phase="after" dispatcher="audit"
                times="2" timeout="1.5" />
            """)
        (info,) = get_dispatcher("audit").handlers()
        self.assertEqual((info.phase, info.remaining, info.timeout), ("after", 2, 1.5))
        self.assertEqual([self.fire("audit") for _ in range(3)], [1, 1, 0])

    def test_match_subdirectives(self) -> None:
        """Matchers, typed literals, and keywords that attributes cannot say."""
        self.load("""
            <oni:eventDispatcher allowed_match_spec_keywords="user level phase new three rate" />
            <oni:eventHandler handler="HERE.hear" phase="during" rate="fast">
              <oni:match keyword="user" matcher="HERE.STARTS_WITH_B" />
              <oni:match keyword="level" value="3" as="int" />
              <oni:match keyword="phase" value="full moon" />
              <oni:match keyword="new" value="yes" as="bool" />
              <oni:match keyword="three" matcher="HERE.THREE" />
            </oni:eventHandler>
            """)
        fits = {
            "user": "bob",
            "level": 3,
            "phase": "full moon",
            "new": True,
            "three": 3,
            "rate": "fast",
        }
        self.assertEqual(self.fire(**fits), 1)
        for keyword, other in fits.items():
            wrong = "eve" if isinstance(other, str) else not other
            self.assertEqual(self.fire(**{**fits, keyword: wrong}), 0, keyword)

    def test_dispatcher_made_in_python(self) -> None:
        """A dispatcher that was provided before is used, as the daemon's is."""
        dispatcher = EventDispatcher(("role",))
        provide(dispatcher)
        self.load('<oni:eventHandler handler="HERE.hear" phase="during" role="admin" />')
        self.assertEqual([dict(h.match_spec) for h in dispatcher.handlers()], [{"role": "admin"}])

    def test_same_twice(self) -> None:
        """The same handler for the same events is a conflict, which names both places."""
        text = self.refused("""
            <oni:eventDispatcher allowed_match_spec_keywords="user" />
            <oni:eventHandler handler="HERE.hear" phase="during" user="bob" />
            <oni:eventHandler handler="HERE.hear" phase="during" user="bob" times="1" />
            """)
        self.assertIn("onflict", text)
        self.assertIn('app.zcml", line 4', text)
        self.assertIn('app.zcml", line 5', text)

    def test_not_the_same(self) -> None:
        """Another handler, phase, dispatcher or match spec is no conflict."""
        self.load("""
            <oni:eventDispatcher allowed_match_spec_keywords="user" />
            <oni:eventDispatcher name="audit" />
            <oni:eventHandler handler="HERE.hear" phase="during" user="bob" />
            <oni:eventHandler handler="HERE.hear_too" phase="during" user="bob" />
            <oni:eventHandler handler="HERE.hear" phase="after" user="bob" />
            <oni:eventHandler handler="HERE.hear" phase="during" user="eve" />
            <oni:eventHandler handler="HERE.hear" phase="during" />
            <oni:eventHandler handler="HERE.hear" phase="during" dispatcher="audit" />
            """)
        self.assertEqual(len(get_dispatcher().handlers()), 5)
        self.assertEqual(len(get_dispatcher("audit").handlers()), 1)


class WrongTests(ZcmlTestCase):
    """What is wrong is one error that names file, line and cause."""

    def test_each(self) -> None:
        """Each mistake names its line and what is wrong, in the words of Python's API."""
        handler = '<oni:eventHandler handler="HERE.hear" phase="during"'
        for wrong, complaint in {
            '<oni:eventHandler handler="HERE.hear" phase="never" />': "unknown phase 'never'",
            f'{handler} city="Oslo" />': "unknown match spec keyword 'city'; allowed: 'user'",
            f'{handler} dispatcher="nobody" />': "no event dispatcher is registered",
            f'{handler} times="0" />': "times must be a positive integer",
            f'{handler} times="many" />': "invalid literal",
            f'{handler} timeout="-1" />': "timeout must be a positive number",
            '<oni:eventHandler handler="HERE.nobody" phase="during" />': "nobody",
            '<oni:eventHandler handler="no.such.module" phase="during" />': "no.such",
            '<oni:eventHandler handler="HERE.THREE" phase="during" />': "cannot be an event",
            '<oni:eventHandler phase="during" />': "handler",
            f'{handler}><oni:match keyword="user" /></oni:eventHandler>': "a value or a matcher",
            f'{handler}><oni:match keyword="user" value="x" as="int" /></oni:eventHandler>': (
                "'x' is no int"
            ),
            f'{handler}><oni:match keyword="user" value="x" as="bool" /></oni:eventHandler>': (
                "'x' is no bool"
            ),
            f'{handler}><oni:match keyword="user" value="x" as="y" /></oni:eventHandler>': "y",
            f'{handler} user="x"><oni:match keyword="user" value="x" /></oni:eventHandler>': (
                "names 'user' twice"
            ),
            '<oni:eventDispatcher name="audit" phases="a a" />': "already a phase 'a'",
            '<oni:eventDispatcher name="audit" order_by="city" />': "'city'",
            '<oni:eventDispatcher name="audit" colour="red" />': "colour",
            '<oni:eventDispatcher name="audit" start="perhaps" />': "start",
            '<oni:eventDispatcher name="audit" order_by="x" ordered="no" />': "no meaning",
            '<oni:eventDispatcher name="audit"><oni:phase name="a" timeout="0" />'
            "</oni:eventDispatcher>": "timeout of phase 'a'",
            '<oni:eventDispatcher name="audit"><oni:phase name="a" on_error="ignore" />'
            "</oni:eventDispatcher>": "on_error",
            "<oni:nothing />": "nothing",
        }.items():
            text = self.refused(
                f'<oni:eventDispatcher allowed_match_spec_keywords="user" />\n{wrong}'
            )
            self.assertIn(complaint, text, wrong)
            self.assertIn('app.zcml", line 4', text, wrong)
            unprovide()
            unprovide(name="audit")

    def test_not_there(self) -> None:
        """A file that does not exist is named."""
        missing = self.directory / "missing.zcml"
        with self.assertRaises(ZcmlError) as caught:
            load_zcml(missing)
        self.assertIn("missing.zcml", str(caught.exception))

    def test_not_xml(self) -> None:
        """A file that is no XML is named, with the line."""
        (self.directory / "app.zcml").write_text("<configure\n  oops")
        with self.assertRaises(ZcmlError) as caught:
            load_zcml(str(self.directory / "app.zcml"))
        self.assertIn("app.zcml:1:0: unclosed token", str(caught.exception))

    def test_a_conflict_changes_nothing(self) -> None:
        """Nothing is registered before the whole file was found free of conflicts."""
        self.refused('<oni:eventDispatcher name="audit" />\n' + "<oni:eventDispatcher />\n" * 2)
        self.assertRaises(NoDispatcherError, get_dispatcher, "audit")


class MetaTests(ZcmlTestCase):
    """``meta.zcml`` is for applications that read their ZCML themselves."""

    def test_include(self) -> None:
        """An application's own machine knows the directives after the include."""
        path = self.write("""
            <include package="oni.zca" file="meta.zcml" />
            <oni:eventDispatcher />
            """)
        context = ConfigurationMachine()
        xmlconfig.registerCommonDirectives(context)
        xmlconfig.file(str(path), context=context)
        get_dispatcher()

    def test_include_where_it_is_known(self) -> None:
        """A file with the include can be loaded by load_zcml too."""
        self.load('<include package="oni.zca" file="meta.zcml" /><oni:eventDispatcher />')
        get_dispatcher()

    def test_lies_in_the_package(self) -> None:
        """It is found beside the room."""
        self.assertTrue(Path(oni.zca.__file__).with_name("meta.zcml").is_file())


class MissingExtraTests(ZcmlTestCase):
    """Without zope.configuration, everything but ZCML works."""

    def test_error_names_the_extra(self) -> None:
        """It is one clear error that says what to install."""
        modules = patch.dict(sys.modules, {"zope.configuration": None})
        modules.start()
        self.addCleanup(modules.stop)
        sys.modules.pop("oni.zca._zcml", None)
        with self.assertRaises(MissingExtraError) as caught:
            load_zcml("anything.zcml")
        self.assertIsInstance(caught.exception, OniError)
        self.assertEqual(caught.exception.extra, "zcml")
        self.assertIn("pip install 'oni-dispatcher[zcml]'", str(caught.exception))
