"""Fail when a JUnit report names skipped tests: `python scripts/skipped.py REPORT.xml`."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main(report: Path) -> int:
    """0 when every test ran and there was at least one."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = [(case, found) for case in cases if (found := case.find("skipped")) is not None]
    for case, found in skipped:
        print(f"skipped: {case.get('classname')}.{case.get('name')}: {found.get('message')}", file=sys.stderr)
    if not cases:
        print(f"{report}: no test ran", file=sys.stderr)
    return 1 if skipped or not cases else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
