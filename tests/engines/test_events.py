"""Both event logs against the conformance suite, and what only files can suffer: kills, torn tails, damage."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.engines.conformance.events import EventLogConformance, OpenLog
from headrace.engines.events.memory import MemoryLog
from headrace.engines.events.repairs import repairs
from headrace.engines.events.segments import SegmentLog
from headrace.kernel.errors import CheckFailed, EngineUnreachable, IncompatibleFormat, InvalidInput

APPENDER = """
import sys
from pathlib import Path
from headrace.engines.events.segments import SegmentLog
log = SegmentLog(Path(sys.argv[1]), segment_bytes=20_000)
name, size, rounds = sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    values = [b"%s/%d/%d" % (name, number, k) + b"." * 40 for k in range(size)]
    offset = log.append("t", 0, values, sync=False)
    print(offset, number, flush=True)
"""


class TestSegmentLog(EventLogConformance):
    @pytest.fixture
    def open_log(self, tmp_path: Path) -> OpenLog:
        return lambda: SegmentLog(tmp_path, segment_bytes=200)


class TestMemoryLog(EventLogConformance):
    @pytest.fixture
    def open_log(self) -> OpenLog:
        log = MemoryLog()
        return lambda: log


def _appender(folder: Path, name: str, size: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(folder), name, str(size), str(rounds)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _start(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.close()
    child.stdin = None


def _segments(folder: Path, topic: str = "t") -> list[Path]:
    return sorted((folder / topic / "@0").glob("*.segment"))


def test_processes_append_without_loss_or_doubling(tmp_path: Path) -> None:
    children = [_appender(tmp_path, name, 7, 1500) for name in ("a", "b")]
    log = SegmentLog(tmp_path, segment_bytes=20_000)
    for child in children:
        _start(child)
    acknowledged = {log.append("t", 0, [b"me/%d" % n], sync=False): b"me/%d" % n for n in range(1500)}
    for child, name in zip(children, ("a", "b"), strict=True):
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        for line in output.splitlines():
            offset, number = map(int, line.split())
            acknowledged |= {offset + k: b"%s/%d/%d" % (name.encode(), number, k) + b"." * 40 for k in range(7)}
    assert dict(enumerate(log.read("t", 0, 0, max_records=100_000).values)) == acknowledged
    assert len(_segments(tmp_path)) > 3


def test_a_killed_process_loses_and_doubles_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[int, bytes] = {}
    for kill in range(4):
        name = f"run{kill}"
        child = _appender(tmp_path, name, 200, 100_000)
        _start(child)
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(0.05 * kill)
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        lines += rest.splitlines()[: rest.count("\n")]  # a line that the kill cut off is no acknowledgement
        child.wait()
        child.stdout.close()
        for line in lines:
            offset, number = map(int, line.split())
            acknowledged |= {offset + k: b"%s/%d/%d" % (name.encode(), number, k) + b"." * 40 for k in range(200)}
    log = SegmentLog(tmp_path)
    found = log.read("t", 0, 0, max_records=10_000_000).values
    assert len(set(found)) == len(found)
    assert len(found) - len(acknowledged) <= 4 * 200, "at most the batch in flight at each kill is there unacknowledged"
    assert all(found[offset] == value for offset, value in acknowledged.items())


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_a_torn_tail_is_cut_and_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str], cut: int) -> None:
    log = SegmentLog(tmp_path)
    log.append("t", 0, [b"whole"])
    log.append("t", 0, [b"torn" * 10], sync=False)
    log.close(sync=False)
    path = _segments(tmp_path)[-1]
    whole = path.read_bytes()
    os.truncate(path, path.stat().st_size - cut)
    log = SegmentLog(tmp_path)
    assert log.read("t", 0, 0).values == [b"whole"]
    assert "event_log.torn_tail" in capfd.readouterr().err
    (aside,) = repairs(tmp_path)
    assert (aside.topic, aside.partition, aside.offset) == ("t", 0, 1)
    assert path.read_bytes() + aside.path.read_bytes() == whole[: len(whole) - cut]
    assert log.append("t", 0, [b"next"]) == 1
    assert log.read("t", 0, 0).values == [b"whole", b"next"]


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_tail_torn_by_another_process_is_cut_by_the_next_append(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kept: int
) -> None:
    """`kept` 0: not torn, but a batch that stands where its offset does not belong."""
    log = SegmentLog(tmp_path)
    log.append("t", 0, [b"whole"])
    path = _segments(tmp_path)[-1]
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[: len(whole) - kept])
    assert log.read("t", 0, 0).values == SegmentLog(tmp_path / ".").read("t", 0, 0).values == [b"whole"]
    with path.open("ab") as file:
        file.write(whole[: len(whole) - kept])
    assert log.read("t", 0, 0).values == [b"whole"]
    assert log.append("t", 0, [b"n"]) == 1
    assert capfd.readouterr().err.count("event_log.torn_tail") == 2
    assert [(aside.offset, aside.path.read_bytes()) for aside in repairs(tmp_path)] == [(1, whole[: len(whole) - kept])] * 2
    assert path.stat().st_size == 2 * len(whole) - len(b"hole")
    assert log.read("t", 0, 0).values == [b"whole", b"n"]


def test_damage_before_whole_batches_is_an_error_and_cuts_nothing(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    for value in (b"first", b"second", b"third"):
        log.append("t", 0, [value])
    log.close()
    path = _segments(tmp_path)[-1]
    content = bytearray(path.read_bytes())
    content[content.index(b"second")] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckFailed, match="offset 1"):
        SegmentLog(tmp_path).read("t", 0, 0)
    assert path.read_bytes() == content


def test_damage_in_a_sealed_segment_is_found_on_reading(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=10)
    for value in (b"first", b"second"):
        log.append("t", 0, [value])
    log.close()
    path = _segments(tmp_path)[0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"first", b"fIrst"))
    with pytest.raises(CheckFailed, match="checksum"):
        SegmentLog(tmp_path).read("t", 0, 0)


def test_the_segment_that_another_process_has_begun_is_found_whatever_its_size(tmp_path: Path) -> None:
    """Two handles of one folder stand for two processes; the second seals much earlier."""
    large, small = SegmentLog(tmp_path), SegmentLog(tmp_path, segment_bytes=10)
    large.create("t")
    offsets = [log.append("t", 0, [b"%d" % n]) for n, log in enumerate((large, small, large, small, small, large))]
    assert offsets == list(range(6))
    assert large.end("t", 0) == small.end("t", 0) == 6
    assert large.read("t", 0, 0).values == small.read("t", 0, 0).values == [b"%d" % n for n in range(6)]
    assert [path.stat().st_mode & 0o200 for path in _segments(tmp_path)][:-1] == [0] * (len(_segments(tmp_path)) - 1)


def test_a_sealed_segment_without_a_following_one_is_followed(tmp_path: Path) -> None:
    """As after SIGKILL between sealing and creating."""
    log = SegmentLog(tmp_path, segment_bytes=10)
    for value in (b"first", b"second"):
        log.append("t", 0, [value])
    log.close()
    _segments(tmp_path)[-1].chmod(0o400)
    again, other = SegmentLog(tmp_path), SegmentLog(tmp_path)
    assert [again.append("t", 0, [b"third"]), other.append("t", 0, [b"fourth"])] == [2, 3]
    assert len(_segments(tmp_path)) == 3
    assert SegmentLog(tmp_path).read("t", 0, 0).values == [b"first", b"second", b"third", b"fourth"]


def test_a_lost_index_is_rebuilt(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=1000)
    values = [b"%d" % n for n in range(300)]
    for value in values:
        log.append("t", 0, [value], sync=False)
    log.close()
    for index in (tmp_path / "t" / "@0").glob("*.index"):
        index.unlink()
    assert SegmentLog(tmp_path).read("t", 0, 123).values == values[123:]


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.append("t", 0, [b"x"])
    log.close()
    path = _segments(tmp_path)[-1]
    content = bytearray(path.read_bytes())
    content[4:6] = (2).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(IncompatibleFormat, match="format 2"):
        SegmentLog(tmp_path).end("t", 0)
    assert path.read_bytes() == content


@pytest.mark.parametrize("topic", ["", "../outside", "a//b", "a/@0", "."])
def test_a_topic_cannot_leave_its_folder(tmp_path: Path, topic: str) -> None:
    with pytest.raises(InvalidInput):
        SegmentLog(tmp_path).append(topic, 0, [b"x"])


def test_a_full_disk_is_reported_and_leaves_no_trace(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.append("t", 0, [b"x"])
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(EngineUnreachable):
            log.append("t", 0, [b"y" * 1000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert log.append("t", 0, [b"z"]) == 1
    assert log.read("t", 0, 0).values == [b"x", b"z"]


def test_the_log_waits_while_another_process_opens_its_new_offsets(tmp_path: Path) -> None:
    """A write in progress before WAL: SQLite answers a switch to WAL at once, whatever the busy timeout."""
    other = sqlite3.connect(tmp_path / "offsets.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    try:
        log = SegmentLog(tmp_path)
    finally:
        timer.join()
        other.close()
    log.commit("group", "t", 0, 7)
    assert log.committed("group", "t", 0) == 7
    log.close()


def test_processes_that_delete_topics_at_once_delete_them_all(tmp_path: Path) -> None:
    logs = [SegmentLog(tmp_path) for _ in range(4)]
    names = [f"shop/{number}" for number in range(40)]
    for name in names:
        logs[0].append(name, 0, [b"x"], sync=False)
    logs[0].append("shop", 0, [b"kept"], sync=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: logs[number % 4].delete(names[number]), range(40)))
    assert logs[0].topics() == {"shop": 1}
    logs[0].delete("unknown")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"shop"}
    for log in logs:
        log.close(sync=False)
