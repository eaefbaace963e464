"""The fault suite prints how many kills it made in each phase."""

from __future__ import annotations

import pytest
from killing import KILLS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if KILLS:
        phases = ", ".join(f"{phase} {number}" for phase, number in KILLS.items())
        terminalreporter.write_line(f"SIGKILLs: {phases}; {KILLS.total()} in all")
