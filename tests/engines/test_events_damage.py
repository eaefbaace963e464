"""Damage to what was acknowledged as durable is told apart from the torn tail of an append that never was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.engines.events.repairs import repairs
from headrace.engines.events.segments import SegmentLog
from headrace.kernel.errors import CheckFailed, IncompatibleFormat


def _last_segment(folder: Path) -> Path:
    return max((folder / "t" / "@0").glob("*.segment"))


def _written(folder: Path) -> Path:
    """Two batches: the first acknowledged as durable, the second only written."""
    log = SegmentLog(folder)
    log.append("t", 0, [b"durable"])
    log.append("t", 0, [b"written"], sync=False)
    log.close(sync=False)
    return _last_segment(folder)


@pytest.mark.parametrize("place", [b"HRLB", b"durable"])
def test_damage_to_an_acknowledged_batch_at_the_end_refuses_to_open_and_cuts_nothing(tmp_path: Path, place: bytes) -> None:
    path = _written(tmp_path)
    content = bytearray(path.read_bytes()[: path.stat().st_size // 2])
    content[content.index(place)] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"offset 0 .* acknowledged as durable, as were all before offset 1") as raised:
            SegmentLog(tmp_path).append("t", 0, [b"x"])
        assert "headrace restore" in raised.value.hint
    assert path.read_bytes() == content
    assert repairs(tmp_path) == []


def test_a_log_that_is_shorter_than_what_was_acknowledged_refuses_to_open(tmp_path: Path) -> None:
    path = _written(tmp_path)
    os.truncate(path, 0)
    with pytest.raises(CheckFailed, match="ends at offset 0, but all before offset 1"):
        SegmentLog(tmp_path).end("t", 0)


def test_damage_to_a_batch_that_was_not_acknowledged_is_set_aside(tmp_path: Path) -> None:
    path = _written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"written", b"wrItten"))
    assert SegmentLog(tmp_path).read("t", 0, 0).values == [b"durable"]
    (aside,) = repairs(tmp_path)
    assert (aside.offset, aside.size) == (1, len(content) // 2)
    assert path.read_bytes() == content[: len(content) // 2]


def test_the_mark_of_what_is_durable_grows_with_any_process_that_syncs(tmp_path: Path) -> None:
    first, second = SegmentLog(tmp_path), SegmentLog(tmp_path)
    first.append("t", 0, [b"a"], sync=False)
    second.append("t", 0, [b"b"], sync=False)
    first.append("t", 0, [], sync=True)
    path = _last_segment(tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckFailed, match="before offset 2"):
        SegmentLog(tmp_path).end("t", 0)


def test_a_lost_or_damaged_mark_protects_nothing_and_is_written_again(tmp_path: Path) -> None:
    path = _written(tmp_path)
    mark = tmp_path / "t" / "@0" / ".synced"
    mark.write_bytes(b"x" * mark.stat().st_size)
    log = SegmentLog(tmp_path)
    assert log.append("t", 0, [b"next"]) == 2
    os.truncate(path, 10)
    with pytest.raises(CheckFailed, match="before offset 3"):
        SegmentLog(tmp_path).end("t", 0)


def test_a_missing_segment_between_others_is_an_error(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=10)
    for value in (b"first", b"second", b"third"):
        log.append("t", 0, [value])
    log.close()
    sorted((tmp_path / "t" / "@0").glob("*.segment"))[1].unlink()
    with pytest.raises(CheckFailed, match="ends at offset 1, the next segment begins at 2"):
        SegmentLog(tmp_path).read("t", 0, 0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_sealed_or_open_segment_of_a_newer_format_is_refused_at_open(tmp_path: Path, number: int) -> None:
    log = SegmentLog(tmp_path, segment_bytes=10)
    for value in (b"first", b"second"):
        log.append("t", 0, [value])
    log.close()
    path = sorted((tmp_path / "t" / "@0").glob("*.segment"))[number]
    content = bytearray(path.read_bytes())
    content[4:6] = (2).to_bytes(2, "little")
    path.chmod(0o600)
    path.write_bytes(content)
    with pytest.raises(IncompatibleFormat, match="format 2, this headrace reads up to 1"):
        SegmentLog(tmp_path).end("t", 0)
    assert path.read_bytes() == content
