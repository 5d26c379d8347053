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

    def test_numbers(self) -> None:
        """Numbers and texts are those that clients know."""
        self.assertEqual(
            {code: error.message for code, error in ERRORS.items()},
            {
                100: "internal server error",
                101: "unauthorized",
                102: "unknown channel",
                103: "permission denied",
                104: "method not found",
                105: "already subscribed",
                106: "limit exceeded",
                107: "bad request",
                108: "not available",
                109: "token expired",
                110: "expired",
                111: "too many requests",
                112: "unrecoverable position",
                113: "concurrent pagination",
            },
        )
        self.assertEqual(list(UNSUBSCRIBES), [2000, 2500, 2501, 2502])
        self.assertEqual(
            {code: close.reason for code, close in CLOSES.items()},
            {
                3000: "connection closed",
                3001: "shutdown",
                3004: "internal server error",
                3005: "connection expired",
                3006: "subscription expired",
                3008: "slow",
                3009: "write error",
                3010: "insufficient state",
                3011: "force reconnect",
                3012: "no pong",
                3013: "too many requests",
                3014: "state invalidated",
                3500: "invalid token",
                3501: "bad request",
                3502: "stale",
                3503: "force disconnect",
                3504: "connection limit",
                3505: "channel limit",
                3506: "inappropriate protocol",
                3507: "permission denied",
                3508: "not available",
                3509: "too many errors",
            },
        )

    def test_reasons_fit(self) -> None:
        """A close frame has room for 123 bytes of reason."""
        self.assertTrue(all(len(close.reason.encode()) <= 123 for close in CloseCode))
