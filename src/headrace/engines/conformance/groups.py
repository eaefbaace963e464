"""What the consumer groups of every event log engine do; `EventLogConformance` contains it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engines.events.port import EventLog, Member
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Fenced, NotFound
from headrace.kernel.ids import new_id

OpenLog = Callable[[], EventLog]
_actions = st.lists(st.tuples(st.sampled_from(["join", "leave", "poll", "poll"]), st.integers(0, 4)), max_size=25)


def _settled(*members: Member) -> list[set[int]]:
    """The partitions of each member once all have asked again and again: given back, taken, and known to be so."""
    for _ in range(3):
        found = [set(member.assigned()) for member in members]
    return found


class ConsumerGroupConformance:
    """Inherit and give the fixture `open_log`."""

    def test_one_member_gets_all_partitions_and_a_second_half_of_them(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        log.create("t", 4)
        first = log.join("g", "t", "a")
        assert set(first.assigned()) == {0, 1, 2, 3}
        second = other.join("g", "t", "b")
        assert second.assigned() == {}, "the first has not given anything back yet"
        assert set(first.assigned()) == {0, 1}
        assert set(second.assigned()) == {2, 3}
        third = log.join("g", "t", "c")
        assert _settled(first, second, third) == [{0, 1}, {2}, {3}]
        assert _settled(log.join("h", "t", "a")) == [{0, 1, 2, 3}], "another group"

    def test_a_topic_must_exist_and_more_members_than_partitions_wait(self, open_log: OpenLog) -> None:
        log = open_log()
        with pytest.raises(NotFound):
            log.join("g", "nothing", "a")
        log.create("t")
        members = [log.join("g", "t", name) for name in "ab"]
        assert _settled(*members) == [{0}, set()]
        members[0].leave()
        assert _settled(members[1]) == [{0}]

    def test_a_commit_is_kept_for_whoever_reads_next_and_refused_from_others(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        log.create("t", 2)
        first, second = log.join("g", "t", "a"), other.join("g", "t", "b")
        assert _settled(first, second) == [{0}, {1}]
        first.commit(0, 7)
        with pytest.raises(Fenced):
            second.commit(0, 9)
        first.leave()
        with pytest.raises(Fenced):
            first.commit(0, 9)
        assert _settled(second) == [{0, 1}]
        assert other.committed("g", "t", 0) == 7
        second.commit(0, 8)
        assert open_log().committed("g", "t", 0) == 8

    def test_a_paused_member_loses_its_partitions_and_cannot_commit_when_it_wakes(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        log.create("t", 2)
        paused = log.join("g", "t", "a", lease=0.05)
        old = paused.assigned()
        MACHINE.sleep(0.1)
        awake = other.join("g", "t", "b")
        new = awake.assigned()
        assert set(new) == {0, 1}
        assert all(new[part] > old[part] for part in new)
        awake.commit(0, 5)
        with pytest.raises(Fenced, match="partition 0"):
            paused.commit(0, 3)
        assert log.committed("g", "t", 0) == 5
        assert paused.assigned() == {}
        assert set(awake.assigned()) == {0}
        back = paused.assigned()
        assert back[1] > new[1]
        paused.commit(1, 2)

    def test_a_member_that_renews_its_lease_during_a_long_batch_keeps_its_partitions(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        log.create("t", 1)
        busy, second = log.join("g", "t", "a", lease=0.3), other.join("g", "t", "b", lease=60)
        assert set(busy.assigned()) == {0}
        for _ in range(5):
            MACHINE.sleep(0.1)
            busy.renew()
            assert second.assigned() == {}
        busy.commit(0, 4)

    def test_a_process_that_joins_again_under_its_name_goes_on_at_once_and_fences_the_old_one(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        log.create("t", 2)
        old = log.join("g", "t", "a")
        before = old.assigned()
        new = other.join("g", "t", "a")
        after = new.assigned()
        assert set(after) == {0, 1}
        assert all(after[part] > before[part] for part in after)
        for write in (old.assigned, lambda: old.commit(0, 1)):
            with pytest.raises(Fenced):
                write()
        old.leave()
        assert new.assigned() == after

    def test_whoever_comes_and_goes_each_partition_has_one_reader_and_finds_one(self, open_log: OpenLog) -> None:
        @settings(max_examples=15, deadline=None)
        @given(actions=_actions, partitions=st.integers(1, 7))
        def check(actions: list[tuple[str, int]], partitions: int) -> None:
            log, topic = open_log(), f"any/{new_id()}"
            log.create(topic, partitions)
            members: dict[int, Member] = {}
            held: dict[int, dict[int, int]] = {}
            for action, name in actions:
                if action == "join":
                    held.pop(name, None)
                    members[name] = log.join("g", topic, str(name), lease=60)
                elif action == "leave" and name in members:
                    members.pop(name).leave()
                    held.pop(name, None)
                elif name in members:
                    held[name] = members[name].assigned()
                parts = [part for own in held.values() for part in own]
                assert len(parts) == len(set(parts)), "no partition has two readers"
            if members:
                before = {name: set(own) for name, own in held.items()}
                found = dict(zip(members, _settled(*members.values()), strict=True))
                sizes = [len(own) for own in found.values()]
                assert sorted(part for own in found.values() for part in own) == list(range(partitions))
                assert max(sizes) - min(sizes) <= 1
                kept = sum(len(found[name] & before.get(name, set())) for name in found)
                most = sorted((len(before.get(name, ())) for name in found), reverse=True)
                least, more = divmod(partitions, len(found))
                assert kept == sum(min(size, least + (place < more)) for place, size in enumerate(most)), "it is sticky"

        check()
