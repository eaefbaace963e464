"""What every event log engine does. For plug-in authors::

    class TestMyLog(EventLogConformance):
        @pytest.fixture
        def open_log(self, tmp_path):
            return lambda: MyLog(tmp_path)

`open_log()` opens the same storage each time: what one opened log appends, the next one reads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engines.conformance.groups import ConsumerGroupConformance
from headrace.engines.events.port import EventLog
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import new_id

OpenLog = Callable[[], EventLog]
Record = tuple[bytes, bytes, bytes]
"""Key, value, header."""
_record = st.tuples(st.binary(max_size=6), st.binary(max_size=30), st.binary(max_size=6))
_batches = st.lists(st.tuples(st.lists(_record, max_size=8), st.booleans(), st.booleans()), max_size=8)


class EventLogConformance(ConsumerGroupConformance):
    """Inherit and give the fixture `open_log`."""

    def test_offsets_are_consecutive_and_records_come_back(self, open_log: OpenLog) -> None:
        log = open_log()
        assert log.append("a/b", 0, [b"one", b""], keys=[b"k", b""], headers=[b"{}", b""]) == 0
        assert log.append("a/b", 0, [b"three"]) == 2
        found = log.read("a/b", 0, 0)
        assert (found.first, found.next) == (0, 3)
        assert found.values == [b"one", b"", b"three"]
        assert found.keys == [b"k", b"", b""]
        assert found.headers == [b"{}", b"", b""]
        assert found.timestamps == sorted(found.timestamps)
        assert all(t > 1_577_836_800_000_000 for t in found.timestamps)

    def test_reading_at_the_end_and_of_an_unknown_topic_gives_nothing(self, open_log: OpenLog) -> None:
        log = open_log()
        assert len(log.read("nothing", 0, 0)) == 0
        assert (log.end("nothing", 0), log.end("nothing", 3), log.first("nothing", 3)) == (0, 0, 0)
        log.append("t", 0, [b"x"])
        assert (len(log.read("t", 0, 1)), log.read("t", 0, 1).first, log.end("t", 0)) == (0, 1, 1)

    def test_an_offset_below_the_first_is_refused(self, open_log: OpenLog) -> None:
        log = open_log()
        log.append("t", 0, [b"x"])
        with pytest.raises(InvalidInput):
            log.read("t", 0, -1)

    def test_retention_drops_the_oldest_below_a_bound_and_gives_no_offset_again(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        values = [b"%d" % number + b"." * 60 for number in range(40)]
        for value in values:
            log.append("t", 0, [value])
        far = MACHINE.now() + 10_000_000
        assert log.retain("unknown", 0, 40, older_than=far) == 0
        assert log.retain("t", 0, 40) == log.retain("t", 0, 0, older_than=far, max_bytes=0) == log.first("t", 0) == 0
        assert log.retain("t", 0, 40, older_than=1) == 0
        first = log.retain("t", 0, 30, max_bytes=600)
        assert 0 < first <= 30
        for reader in (log, other, open_log()):
            assert reader.first("t", 0) == first
            assert reader.read("t", 0, first).values == values[first:]
            with pytest.raises(InvalidInput, match=f"first kept offset {first}"):
                reader.read("t", 0, first - 1)
        assert log.retain("t", 0, 40, older_than=far) == 40
        assert [log.end("t", 0), other.append("t", 0, [b"next"]), log.append("t", 0, [b"last"])] == [40, 40, 41]
        assert open_log().read("t", 0, 40).values == [b"next", b"last"]

    def test_topics_keep_their_number_of_partitions(self, open_log: OpenLog) -> None:
        log = open_log()
        log.create("three", 3)
        log.create("three", 3)
        log.append("one", 0, [b"x"])
        with pytest.raises(InvalidInput, match="3 partitions"):
            log.create("three", 2)
        assert open_log().topics() == {"one": 1, "three": 3}

    def test_a_deleted_topic_begins_anew(self, open_log: OpenLog) -> None:
        log = open_log()
        log.create("shop/a/b", 2)
        log.create("shop/a/c", 1)
        log.append("shop/a/b", 1, [b"one", b"two"])
        with pytest.raises(InvalidInput, match="`shop/a/b` lies in it"):
            log.delete("shop/a")
        log.delete("shop/a/b")
        log.delete("unknown")
        for other in (log, open_log()):
            assert other.topics() == {"shop/a/c": 1}
            assert (other.end("shop/a/b", 1), len(other.read("shop/a/b", 1, 0))) == (0, 0)
        log.create("shop/a/b", 3)
        assert (log.append("shop/a/b", 1, [b"three"]), open_log().read("shop/a/b", 1, 0).values) == (0, [b"three"])

    def test_partitions_are_apart(self, open_log: OpenLog) -> None:
        log = open_log()
        log.create("t", 2)
        log.append("t", 1, [b"x"])
        assert (log.end("t", 0), log.end("t", 1)) == (0, 1)
        with pytest.raises(InvalidInput):
            log.append("t", 2, [b"x"])

    def test_columns_of_unequal_length_are_refused_whole(self, open_log: OpenLog) -> None:
        log = open_log()
        with pytest.raises(InvalidInput):
            log.append("t", 0, [b"x", b"y"], keys=[b"k"])
        assert log.end("t", 0) == 0

    def test_an_append_of_nothing_changes_nothing(self, open_log: OpenLog) -> None:
        log = open_log()
        log.append("t", 0, [b"x"], sync=False)
        assert log.append("t", 0, [], sync=True) == 1
        assert log.read("t", 0, 0).values == [b"x"]

    def test_committed_offsets_are_kept_per_group(self, open_log: OpenLog) -> None:
        log = open_log()
        assert log.committed("g", "t", 0) == 0
        log.commit("g", "t", 0, 7)
        log.commit("g", "t", 0, 5)
        log.commit("h", "t", 0, 1)
        again = open_log()
        assert (again.committed("g", "t", 0), again.committed("h", "t", 0), again.committed("g", "t", 1)) == (5, 1, 0)

    def test_what_is_appended_is_there_for_the_next_opened_log(self, open_log: OpenLog) -> None:
        first = open_log()
        first.append("t", 0, [b"a", b"b"], sync=False)
        second = open_log()
        assert second.append("t", 0, [b"c"]) == 2
        assert first.append("t", 0, [b"d"]) == 3
        assert second.read("t", 0, 1).values == [b"b", b"c", b"d"]

    def test_threads_append_without_loss_or_doubling(self, open_log: OpenLog) -> None:
        log = open_log()
        given_offsets: dict[int, bytes] = {}

        def work(name: int) -> None:
            for number in range(50):
                value = b"%d/%d" % (name, number)
                given_offsets[log.append("t", 0, [value], sync=number % 10 == 0)] = value

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert dict(enumerate(log.read("t", 0, 0).values)) == given_offsets

    def test_any_reading_gives_what_was_appended(self, open_log: OpenLog) -> None:
        @settings(max_examples=15, deadline=None)
        @given(batches=_batches, limit=st.integers(1, 9))
        def check(batches: list[tuple[list[Record], bool, bool]], limit: int) -> None:
            log, topic = open_log(), f"any/{new_id()}"
            expected: list[Record] = []
            for records, with_keys, with_headers in batches:
                keys = [r[0] for r in records] if with_keys else None
                headers = [r[2] for r in records] if with_headers else None
                first = log.append(topic, 0, [r[1] for r in records], keys=keys, headers=headers, sync=False)
                assert first == len(expected)
                expected += [(r[0] if with_keys else b"", r[1], r[2] if with_headers else b"") for r in records]
            for reader in (log, open_log()):
                assert _all_records(reader, topic, limit) == expected
                for start in range(len(expected)):
                    assert reader.read(topic, 0, start, max_records=1).values == [expected[start][1]]

        check()


def _all_records(log: EventLog, topic: str, limit: int) -> list[Record]:
    found: list[Record] = []
    while (part := log.read(topic, 0, len(found), max_records=limit)).values:
        assert part.first == len(found)
        assert len(part) <= limit
        found += zip(part.keys, part.values, part.headers, strict=True)
    return found
