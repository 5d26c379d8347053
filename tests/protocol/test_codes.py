"""The numbers say what a client does next."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import CLOSES, ERRORS, UNSUBSCRIBES, CloseCode, ErrorCode, UnsubscribeCode


class CodeTests(SynchronousTestCase):
    """Tests of the tables."""

    def test_errors(self) -> None:
        """Error codes of the protocol are 100 to 399; three may be tried again."""
        self.assertTrue(all(100 <= code <= 399 for code in ERRORS))
        temporary = {error.code for error in ErrorCode if error.temporary}
        self.assertEqual(temporary, {100, 111, 113})

    def test_closes(self) -> None:
        """From 3500 to 3999 a client stays away, below it comes back."""
        for code, close in CLOSES.items():
            self.assertEqual(close.reconnects, code < 3500)
        self.assertIs(CLOSES[3008], CloseCode.SLOW)

    def test_unsubscribes(self) -> None:
        """From 2500 on a client subscribes again."""
        self.assertFalse(UnsubscribeCode.SERVER.resubscribes)
        self.assertTrue(UNSUBSCRIBES[2500].resubscribes)

    def test_reasons_fit(self) -> None:
        """A close frame has room for 123 bytes of reason."""
        self.assertTrue(all(len(close.reason.encode()) <= 123 for close in CloseCode))
