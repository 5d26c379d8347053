"""A run by hand, or long ones: ``python -m tests.integration.kill_harness --store sqlite``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

from tests.integration.kill_harness.servers import STORES, missing, running
from tests.integration.kill_harness.storm import Storm, storm


def main() -> int:
    """Run storms, and print what came of each; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=STORES, action="append", help="all of them if left off")
    parser.add_argument("--seed", type=int, help="begin with this one; a new one if left off")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds for each store")
    for each in fields(Storm):
        parser.add_argument(f"--{each.name}", type=type(each.default), default=each.default)
    given = parser.parse_args()
    first = random.randrange(2**31) if given.seed is None else given.seed
    size = Storm(**{each.name: getattr(given, each.name) for each in fields(Storm)})
    went_wrong = 0
    for store in given.store or STORES:
        if reason := missing(store):
            print(f"{store} is left out: {reason}", flush=True)
            went_wrong += given.store is not None
            continue
        for seed in range(first, first + given.runs):
            print(f"{store}, seed {seed} ...", flush=True)
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                server = stack.enter_context(running(store, folder))
                report = storm(server.place, folder, seed, size, server.restart)
            print(report, flush=True)
            went_wrong += bool(report.problems)
    return min(went_wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
