"""The Autobahn Testsuite's verdicts are read as they are meant, and what is missing is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.test_check import load

conformance = load("conformance")


def verdict(behavior: str = "OK", close: str = "OK") -> dict[str, str]:
    """Make the verdict on a case."""
    return {"behavior": behavior, "behaviorClose": close}


@pytest.mark.parametrize(
    ("found", "is_good"),
    [
        (verdict(), True),
        (verdict("NON-STRICT"), True),
        (verdict("INFORMATIONAL", "INFORMATIONAL"), True),
        (verdict("FAILED"), False),
        (verdict("UNIMPLEMENTED"), False),
        (verdict("OK", "FAILED"), False),
        (verdict("OK", "WRONG CODE"), False),
        (verdict("OK", "UNCLEAN"), False),
    ],
)
def test_verdicts(found: dict[str, str], is_good: bool) -> None:
    """Only what the suite calls right is right, for the case and for its close."""
    wrong = conformance.judge("direct", {"1.1.1": verdict(), "1.1.2": found}, 2)
    assert (wrong == []) is is_good
    assert is_good or "1.1.2" in wrong[0]


def test_cases_that_did_not_run() -> None:
    """A report that is too short is no success."""
    assert conformance.judge("direct", {}, 247) == ["direct: 0 cases ran, not 247"]


def fake_suite(tmp_path: Path, failed: str) -> Path:
    """Make a program that writes a report as the suite does, with one case that failed."""
    program = tmp_path / "wstest"
    program.write_text(
        f"""#!{sys.executable}
import json, sys
specification = json.load(open(sys.argv[-1]))
report = {{
    server["agent"]: {{
        "1.%d" % number: {{"behavior": "OK", "behaviorClose": "OK"}}
        for number in range({conformance.CASES})
    }}
    for server in specification["servers"]
}}
report["transport"]["1.7"]["behavior"] = "{failed}"
json.dump(report, open(specification["outdir"] + "/index.json", "w"))
"""
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("failed", "status"), [("OK", 0), ("FAILED", 1)])
def test_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, failed: str, status: int
) -> None:
    """One case that failed, in one way of sending, fails the run and is named."""
    monkeypatch.setattr(conformance, "REPORT", tmp_path / "report")
    monkeypatch.setenv("ONI_WSTEST", str(fake_suite(tmp_path, failed)))
    assert conformance.main() == status
    assert ("transport: case 1.7 is FAILED" in capsys.readouterr().out) is bool(status)
    specification = json.loads((tmp_path / "report" / "fuzz.json").read_text())
    assert {server["agent"] for server in specification["servers"]} == set(conformance.WAYS)


def test_missing_suite(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    """Without Python 2.7 it is said how to get the suite, and that is no success."""
    monkeypatch.delenv("ONI_WSTEST", raising=False)
    monkeypatch.setattr(conformance, "HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert conformance.main() == 2
    told = capsys.readouterr().err
    assert "no python2.7" in told
    assert "autobahntestsuite==25.10.1" in told
