"""When all clients come back at once, they are greeted at a rate."""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server.limits import Admission


class AdmissionTests(SynchronousTestCase):
    """A hundred a second."""

    def setUp(self) -> None:
        """Begin."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.admission = Admission(100, self.clock.seconds)

    def test_burst(self) -> None:
        """Ten at once, then one each ten milliseconds."""
        answers = [self.admission.admit() for _ in range(12)]
        self.assertEqual(answers, [0] * 10 + [1, 1])
        self.assertEqual(self.admission.statistics(), {"handshakes_refused": 2})
        self.clock.advance(0.0101)
        self.assertEqual([self.admission.admit() for _ in range(2)], [0, 1])

    def test_spread(self) -> None:
        """Those that are refused are told different seconds, a hundred each."""
        answers = Counter(self.admission.admit() for _ in range(510))
        self.assertEqual(answers, {0: 10, 1: 100, 2: 100, 3: 100, 4: 100, 5: 100})
        self.assertLessEqual(max(self.admission.admit() for _ in range(10_000)), 60)

    def test_no_memory(self) -> None:
        """What was long ago is forgotten."""
        for _ in range(5000):
            self.admission.admit()
        self.clock.advance(120)
        self.assertEqual([self.admission.admit() for _ in range(11)], [0] * 10 + [1])

    def test_storm(self) -> None:
        """2,000 clients lose their connection and obey: all are back within 30 s."""
        back, worst = self.storm(lambda told, tries, random: told + random.random())
        self.assertLess(back, 30)
        self.assertLessEqual(worst, 110)

    def test_storm_of_browsers(self) -> None:
        """A browser tells its page nothing of a refusal: clients come back by their own delays.

        The Centrifugo clients wait for a random part of 0.5 s, doubled each time, up to 20 s.
        """

        def delay(told: int, tries: int, random: Random) -> float:
            return random.uniform(0.5, min(20.0, 0.5 * 2**tries))

        back, worst = self.storm(delay)
        self.assertLess(back, 60)
        self.assertLessEqual(worst, 110)

    def storm(self, delay) -> tuple[float, int]:  # type: ignore[no-untyped-def]
        """Let 2,000 clients come back; give when the last one is, and the most in any second."""
        random, begin = Random(7), self.clock.seconds()
        due = [(begin + random.random() * 0.2, n, 1) for n in range(2000)]
        heapq.heapify(due)
        admitted: list[float] = []
        while due:
            at, client, tries = heapq.heappop(due)
            self.clock.advance(at - self.clock.seconds())
            told = self.admission.admit()
            if told:
                heapq.heappush(due, (at + delay(told, tries, random), client, tries + 1))
            else:
                admitted.append(at)
        worst = max(
            sum(1 for other in admitted[n : n + 200] if other < at + 1)
            for n, at in enumerate(admitted)
        )
        return admitted[-1] - begin, worst
