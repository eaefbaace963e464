"""Retention of the embedded log while other processes append to it and read from it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.engines.events.segments import SegmentLog
from headrace.kernel.errors import InvalidInput

PRODUCER = """
import sys
from pathlib import Path
from headrace.engines.events.segments import SegmentLog
log = SegmentLog(Path(sys.argv[1]), segment_bytes=2_000)
for number in range(int(sys.argv[3])):
    log.append("t", 0, [b"%s/%d/%d" % (sys.argv[2].encode(), number, k) for k in range(3)], sync=number % 50 == 0)
"""
CONSUMER = """
import sys
from pathlib import Path
from headrace.engines.events.segments import SegmentLog
log = SegmentLog(Path(sys.argv[1]), segment_bytes=2_000)
group, total, offset = sys.argv[2], int(sys.argv[3]), 0
while offset < total:
    found = log.read("t", 0, offset, max_records=97)
    assert found.first == offset
    sys.stdout.buffer.write(b"".join(value + b"\\n" for value in found.values))
    offset = found.next
    log.commit(group, "t", 0, offset)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE)


def test_processes_append_and_read_while_what_all_have_read_is_dropped(tmp_path: Path) -> None:
    total = 3 * 3 * 400
    log = SegmentLog(tmp_path, segment_bytes=2_000)
    log.create("t")
    producers = [_start(PRODUCER, tmp_path, name, 400) for name in "abc"]
    consumers = [_start(CONSUMER, tmp_path, group, total) for group in ("g", "h")]
    firsts = []
    while any(process.poll() is None for process in (*producers, *consumers)):
        firsts.append(log.retain("t", 0, min(log.committed(group, "t", 0) for group in ("g", "h")), max_bytes=1))
    expected = {b"%s/%d/%d" % (name, number, k) for name in (b"a", b"b", b"c") for number in range(400) for k in range(3)}
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in consumers]
    assert [process.wait() for process in (*producers, *consumers)] == [0] * 5
    for process in producers:
        process.stdout.close()  # type: ignore[union-attr]
    assert outputs[0] == outputs[1]
    assert (len(outputs[0]), set(outputs[0])) == (total, expected)
    for name in (b"a", b"b", b"c"):
        own = [value for value in outputs[0] if value.startswith(name)]
        assert own == [b"%s/%d/%d" % (name, number, k) for number in range(400) for k in range(3)]
    assert firsts == sorted(firsts)
    assert len(set(firsts)) > 2
    assert log.end("t", 0) == total


def test_a_reader_that_was_behind_what_is_dropped_is_told_and_goes_on_above(tmp_path: Path) -> None:
    log, other = (SegmentLog(tmp_path, segment_bytes=100) for _ in range(2))
    log.append("t", 0, [b"." * 100])
    assert other.end("t", 0) == 1
    for _ in range(9):
        log.append("t", 0, [b"." * 100])
    assert log.retain("t", 0, 7, max_bytes=0) == 7
    assert (other.end("t", 0), other.first("t", 0), len(other.read("t", 0, 7))) == (10, 7, 3)
    with pytest.raises(InvalidInput, match="offset 1 is below the first kept offset 7; older ones were dropped by retention"):
        other.read("t", 0, 1)
    assert sorted(int(path.stem) for path in (tmp_path / "t" / "@0").glob("*.segment")) == [7, 8, 9]


def test_a_process_killed_while_dropping_leaves_a_whole_log(tmp_path: Path) -> None:
    """The mark is durable before the first file goes: whatever files are left below it are none of the log."""
    log = SegmentLog(tmp_path, segment_bytes=100)
    for _ in range(10):
        log.append("t", 0, [b"." * 100])
    left = {path: path.read_bytes() for path in (tmp_path / "t" / "@0").iterdir() if path.name[-9:-8] in ("1", "4")}
    log.retain("t", 0, 7, max_bytes=0)
    for path, content in left.items():
        path.write_bytes(content)
    again = SegmentLog(tmp_path)
    assert (again.first("t", 0), len(again.read("t", 0, 7))) == (7, 3)
    assert not any(path.exists() for path in left)


def test_appends_go_on_in_a_killed_appenders_log_after_retention(tmp_path: Path) -> None:
    child = _start(PRODUCER, tmp_path, "a", 1_000_000)
    log = SegmentLog(tmp_path, segment_bytes=2_000)
    while log.end("t", 0) < 300:
        log.retain("t", 0, log.end("t", 0), max_bytes=5_000) if log.topics() else None
    child.send_signal(signal.SIGKILL)
    child.communicate()
    first, end = log.retain("t", 0, log.end("t", 0), max_bytes=5_000), log.end("t", 0)
    assert SegmentLog(tmp_path).append("t", 0, [b"next"]) == end
    assert len(log.read("t", 0, first)) == end + 1 - first
