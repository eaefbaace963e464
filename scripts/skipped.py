"""Fail when a JUnit report names skipped tests: `python scripts/skipped.py REPORT.xml`.

Only a test that needs the published data may be skipped, and only where `../shared/data` is not beside the checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

DATA = Path(__file__).parents[2] / "shared" / "data"
NEEDS_DATA = "published"


def main(report: Path) -> int:
    """0 when every test ran that can run here, and there was at least one."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = [(case, found.get("message", "")) for case in cases if (found := case.find("skipped")) is not None]
    for case, reason in skipped:
        print(f"NOT RUN: {case.get('classname')}.{case.get('name')}: {reason}", file=sys.stderr)
    if not cases:
        print(f"{report}: no test ran", file=sys.stderr)
    excused = not DATA.is_dir() and all(NEEDS_DATA in reason for _, reason in skipped)
    return 1 if (skipped and not excused) or not cases else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
