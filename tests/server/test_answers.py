"""Who answers what only an application can know."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.server._answers import Answers


def answer(act: Any) -> None:
    """Answer nothing."""


class AnswersTests(SynchronousTestCase):
    """Tests of :class:`oni.server._answers.Answers`."""

    def test_add(self) -> None:
        """One function for each action, and for each method of an rpc."""
        answers = Answers()
        for action, method in (("rpc", "a"), ("rpc", "b"), ("send", ""), ("refresh", "")):
            self.assertFalse(answers.has(action, method))
            answers.add(action, answer, method)
            self.assertTrue(answers.has(action, method))

    def test_refused(self) -> None:
        """What cannot be answered, or is answered already, is refused where it is written."""
        answers = Answers()
        answers.add("rpc", answer, "a")
        for action, method, words in (
            ("publish", "", "refresh, rpc, send, sub_refresh"),
            ("rpc", "", "by method"),
            ("send", "a", "by method"),
            ("rpc", "oni.publish", "the server's own"),
            ("rpc", "a", "rpc a is answered already"),
        ):
            error = self.assertRaises(ValueError, answers.add, action, answer, method)
            self.assertIn(words, str(error))
        self.assertRaises(TypeError, answers.add, "send", "not a function")
