"""What libraries log comes out as lines of our log."""

from __future__ import annotations

import json
import logging

import pytest

from headrace.app.logs import set_up_log


def test_an_error_of_a_library_is_a_line_with_its_traceback_if_it_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log("json", "info")
    logging.getLogger("asyncio").error("task was destroyed", exc_info=False)
    try:
        raise ValueError("no number")
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["logger"], "traceback" in first) == ("task was destroyed", "asyncio", False)
    assert second["event"] == "task failed" and "ValueError: no number" in second["traceback"]
