"""What happens after a commit: what Django makes of it, and what is done so that it may."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import django
from django.db import connection, transaction
from django.dispatch import Signal

from oni.sources.django import _home, _requests, api
from oni.sources.django._hand_over import hand_over, wake
from tests.django_project.blog.models import Plain
from tests.sources.django.case import CommittingCase, DjangoCase, keys


def fail(error: BaseException) -> None:
    """Raise something."""
    raise error


class DjangoTests(CommittingCase):
    """``on_commit``, as Django has it."""

    def setUp(self) -> None:
        """Count callbacks."""
        super().setUp()
        self.called: list[int] = []

    def test_a_callback_that_raises(self) -> None:
        """It reaches whoever has committed, though the row is there, and later ones are lost."""
        with self.assertRaisesRegex(ValueError, "boom"), transaction.atomic():
            Plain.objects.create(text="a")
            transaction.on_commit(lambda: fail(ValueError("boom")))
            transaction.on_commit(lambda: self.called.append(1))
        self.assertEqual((self.called, Plain.objects.count()), ([], 1))

    def test_robust(self) -> None:
        """A robust one may raise an Exception: it is logged, and later ones are called."""
        with self.assertLogs("django.db.backends.base", "ERROR"), transaction.atomic():
            transaction.on_commit(lambda: fail(ValueError("boom")), robust=True)
            transaction.on_commit(lambda: self.called.append(1))
        self.assertEqual(self.called, [1])

    def test_robust_and_worse(self) -> None:
        """Something else than an Exception is no better than without."""
        with self.assertRaises(KeyboardInterrupt), transaction.atomic():
            transaction.on_commit(lambda: fail(KeyboardInterrupt()), robust=True)
            transaction.on_commit(lambda: self.called.append(1))
        self.assertEqual(self.called, [])

    def test_robust_and_partial(self) -> None:
        """A partial has no name to be logged with: before Django 6 that is another error."""
        is_error = django.VERSION < (6, 0)
        expected = self.assertRaises(AttributeError) if is_error else nullcontext()
        with expected, transaction.atomic():
            transaction.on_commit(partial(fail, ValueError("boom")), robust=True)
            transaction.on_commit(lambda: self.called.append(1))
        self.assertEqual(self.called, [] if is_error else [1])

    def test_outside(self) -> None:
        """Outside of a transaction it is called at once."""
        transaction.on_commit(lambda: self.called.append(1))
        self.assertEqual(self.called, [1])

    def test_savepoint(self) -> None:
        """What belongs to a savepoint that is rolled back is not called."""
        with transaction.atomic():
            with self.assertRaises(ValueError), transaction.atomic():
                transaction.on_commit(lambda: self.called.append(1))
                raise ValueError
            transaction.on_commit(lambda: self.called.append(2))
        self.assertEqual(self.called, [2])

    def test_no_harm(self) -> None:
        """Whatever a wake raises, it harms nobody; and it is one function, with a name."""
        with (
            mock.patch.object(_home.Home, "wake", side_effect=KeyboardInterrupt) as woken,
            transaction.atomic(),
        ):
            api.process_events([api.event("group", 1)])
            transaction.on_commit(lambda: self.called.append(1))
            (_, first, robust), _ = connection.run_on_commit
            self.assertIs(first, wake)
            self.assertTrue(robust and wake.__qualname__)
        woken.assert_called_once_with()
        self.assertEqual((self.called, len(keys())), ([1], 1))


class WakeTests(DjangoCase):
    """When a process begins to deliver."""

    def setUp(self) -> None:
        """Be a process that delivers; what it would start is counted."""
        super().setUp()
        _home.home.sources.configure(deliver="here")
        for place, name, value in (
            (_home.Home, "start", mock.Mock()),
            (_requests, "request_started", Signal()),  # to Django's own, others listen
        ):
            patched = mock.patch.object(place, name, value)
            patched.start()
            self.addCleanup(patched.stop)
        self.start: Any = _home.Home.start

    def test_nothing_to_tell(self) -> None:
        """Without events there is nothing to wake for."""
        hand_over("default", [])
        self.assertEqual(connection.run_on_commit, [])

    def test_not_in_a_test(self) -> None:
        """In a test that never commits nothing is begun: nobody else would see its rows."""
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            hand_over("default", [api.event("group", 1)])
        self.assertEqual(callbacks, [wake])
        self.start.assert_not_called()

    def test_first_request(self) -> None:
        """The first request that is no test's begins; later ones cost nothing."""
        _requests.start_with_first_request()
        _requests.request_started.send(object)
        self.start.assert_not_called()
        with (
            mock.patch.object(_home.Home, "transaction", return_value=None),
            mock.patch.object(_home.Home, "is_running", True),
        ):
            for _ in range(3):
                _requests.request_started.send(object)
        self.start.assert_called_once_with()

    def test_only_workers(self) -> None:
        """Where workers deliver, no request begins anything."""
        _home.home.sources.configure(deliver="worker")
        _requests.start_with_first_request()
        with mock.patch.object(_home.Home, "transaction", return_value=None):
            _requests.request_started.send(object)
        self.start.assert_not_called()
