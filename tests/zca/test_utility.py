"""A dispatcher registered and found as a utility."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.component import (
    getGlobalSiteManager,
    getSiteManager,
    getUtilitiesFor,
    getUtility,
    hooks,
)
from zope.interface.exceptions import Invalid
from zope.interface.registry import Components

from oni.dispatcher import EventDispatcher
from oni.errors import NoDispatcherError
from oni.interfaces import IBackgroundUtility, IEventDispatcher
from oni.zca import get_dispatcher, provide, scratch_registry, unprovide


class GlobalRegistryTests(SynchronousTestCase):
    """Without a registry, the current site's is used: the global one."""

    def setUp(self) -> None:
        """Leave the global registry as it was."""
        self.dispatcher = EventDispatcher()
        for name in ("", "audit"):
            self.addCleanup(unprovide, name=name)

    def test_provide_and_get(self) -> None:
        """What is provided is found, by us and by zope.component alike."""
        provide(self.dispatcher)
        self.assertIs(get_dispatcher(), self.dispatcher)
        self.assertIs(getUtility(IEventDispatcher), self.dispatcher)
        self.assertEqual(self.dispatcher.state, "new")

    def test_names(self) -> None:
        """Each name has its own dispatcher."""
        other = EventDispatcher()
        provide(self.dispatcher)
        provide(other, "audit")
        self.assertIs(get_dispatcher(), self.dispatcher)
        self.assertIs(get_dispatcher("audit"), other)

    def test_is_a_background_utility_too(self) -> None:
        """Whoever starts every IBackgroundUtility finds it."""
        provide(self.dispatcher, "audit")
        self.assertIn(("audit", self.dispatcher), list(getUtilitiesFor(IBackgroundUtility)))

    def test_none(self) -> None:
        """Looking for one that is not there is a LookupError that says what there is."""
        provide(self.dispatcher, "audit")
        with self.assertRaises(NoDispatcherError) as caught:
            get_dispatcher("adit")
        self.assertIsInstance(caught.exception, LookupError)
        self.assertEqual((caught.exception.name, caught.exception.names), ("adit", ("audit",)))
        self.assertIn("registered: 'audit'", str(caught.exception))
        self.assertIn("oni.zca.provide(dispatcher, name='adit')", str(caught.exception))

    def test_replaces(self) -> None:
        """A later one takes the name over, and the earlier one cannot take it out any more."""
        later = EventDispatcher()
        provide(self.dispatcher)
        provide(later)
        self.assertFalse(unprovide(self.dispatcher))
        self.assertIs(get_dispatcher(), later)

    def test_unprovide(self) -> None:
        """It is gone afterwards; the second time there is nothing to do."""
        provide(self.dispatcher)
        self.assertTrue(unprovide(self.dispatcher))
        self.assertFalse(unprovide(self.dispatcher))
        self.assertRaises(NoDispatcherError, get_dispatcher)

    def test_unprovide_by_name(self) -> None:
        """Without a dispatcher, whichever has the name is taken out."""
        provide(self.dispatcher, "audit")
        self.assertFalse(unprovide())
        self.assertTrue(unprovide(name="audit"))

    def test_refuses_what_is_no_dispatcher(self) -> None:
        """The mistake is found where it is made."""
        self.assertRaises(Invalid, provide, object())
        self.assertRaises(NoDispatcherError, get_dispatcher)


class OtherRegistryTests(SynchronousTestCase):
    """A registry of one's own is used where it is given, also an empty one."""

    def setUp(self) -> None:
        """Make a registry on top of the global one."""
        self.registry = Components("mine", bases=(getGlobalSiteManager(),))
        self.dispatcher = EventDispatcher()

    def test_is_apart(self) -> None:
        """The global registry knows nothing of it."""
        provide(self.dispatcher, registry=self.registry)
        self.assertIs(get_dispatcher(registry=self.registry), self.dispatcher)
        self.assertRaises(NoDispatcherError, get_dispatcher)
        self.assertTrue(unprovide(self.dispatcher, registry=self.registry))
        self.assertRaises(NoDispatcherError, get_dispatcher, registry=self.registry)

    def test_current_site(self) -> None:
        """Inside a site, its registry is the one that is asked."""

        class Site:
            def __init__(self, registry: Components) -> None:
                self.registry = registry

            def getSiteManager(self) -> Components:
                return self.registry

        provide(self.dispatcher, registry=self.registry)
        hooks.setHooks()
        self.addCleanup(hooks.resetHooks)
        with hooks.site(Site(self.registry)):
            self.assertIs(get_dispatcher(), self.dispatcher)
        self.assertRaises(NoDispatcherError, get_dispatcher)


class ScratchRegistryTests(SynchronousTestCase):
    """A registry that is thrown away."""

    def test_what_is_registered_goes(self) -> None:
        """It is found while the block runs, as is what is global; afterwards only the latter."""
        everywhere, here = EventDispatcher(), EventDispatcher()
        provide(everywhere, "everywhere")
        self.addCleanup(unprovide, name="everywhere")
        with scratch_registry() as registry:
            provide(here, "here")
            self.assertIs(get_dispatcher("here"), here)
            self.assertIs(get_dispatcher("here", registry), here)
            self.assertIs(get_dispatcher("everywhere"), everywhere)
        self.assertRaises(NoDispatcherError, get_dispatcher, "here")
        self.assertIs(get_dispatcher("everywhere"), everywhere)

    def test_after_an_error(self) -> None:
        """The registry from before is back, also where that was a site's."""
        site = Components()
        getSiteManager.sethook(lambda context=None: site)
        self.addCleanup(getSiteManager.reset)
        with self.assertRaises(ZeroDivisionError), scratch_registry():
            raise ZeroDivisionError
        self.assertIs(getSiteManager(), site)
