"""A long run: ``python -m tests.fuzz --seconds 600``."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.fuzz.driver import drive, objects
from tests.fuzz.targets import TARGETS

_ROUND = 20_000  # inputs after which a new seed begins; the time is looked at then
_GROWTH = 500  # objects


def main() -> int:
    """Feed every target for a while, with new seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all targets together")
    parser.add_argument("--seed", type=int, help="begin with this one")
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    given = parser.parse_args()
    seed = random.randrange(2**31) if given.seed is None else given.seed
    chosen = [target for target in TARGETS if given.target in (None, target.name)]
    for target in chosen:
        end = time.monotonic() + given.seconds / len(chosen)
        total = growth = after_first = 0
        while time.monotonic() < end:
            report = drive(target, _ROUND, seed)
            total, growth, seed = total + report.inputs, max(growth, report.growth), seed + 1
            after_first = after_first or objects()
        growth = max(growth, objects() - after_first)
        print(f"{target.name:<10} {total:>10,} inputs, growth {growth} objects", flush=True)
        if growth > _GROWTH:
            print(f"{target.name} grows", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
