"""What every lake engine does. Inherit `LakeConformance` and give the fixture `lake`: an empty one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headrace.engines.lake.port import Lake
from headrace.kernel.errors import CheckFailed, Fenced, InvalidInput, NotFound

TABLE = "shop/streams/orders"


def _frame(*numbers: int) -> pl.DataFrame:
    """Every type that a stream has, with nulls."""
    schema: dict[str, pl.DataType] = {
        "number": pl.Int64(), "price": pl.Float64(), "who": pl.String(), "paid": pl.Boolean(), "at": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    at = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    rows = [(n, None if n % 2 else n / 3, None if n % 3 else f"é{n}", None if n % 5 else n % 2 == 0, at) for n in numbers]
    return pl.DataFrame(rows, schema, orient="row")


class LakeConformance:
    def test_a_frame_comes_back_as_it_was(self, lake: Lake) -> None:
        assert lake.version(TABLE) == -1
        version = lake.append(TABLE, _frame(0, 1, 2, 3), application="a", version=3)
        assert_frame_equal(lake.read(TABLE).sort("number"), _frame(0, 1, 2, 3))
        assert lake.version(TABLE) == version

    def test_a_version_is_committed_once_per_application(self, lake: Lake) -> None:
        assert lake.committed(TABLE, "a") == -1
        first = lake.append(TABLE, _frame(1), application="a", version=10)
        assert lake.append(TABLE, _frame(1), application="a", version=10) == first
        assert lake.append(TABLE, _frame(2), application="a", version=9) == first
        lake.append(TABLE, _frame(3), application="b", version=1)
        lake.append(TABLE, _frame(4), application="a", version=11)
        assert lake.read(TABLE)["number"].sort().to_list() == [1, 3, 4]
        assert (lake.committed(TABLE, "a"), lake.committed(TABLE, "b"), lake.committed(TABLE, "c")) == (11, 1, -1)

    def test_a_version_follows_the_one_it_says(self, lake: Lake) -> None:
        lake.append(TABLE, _frame(1), application="a", version=10, after=-1)
        lake.append(TABLE, _frame(2), application="a", version=20, after=10)
        for version, after in ((30, 10), (30, -1), (15, 10)):
            with pytest.raises(Fenced, match="committed up to 20"):
                lake.append(TABLE, _frame(3), application="a", version=version, after=after)
        assert lake.read(TABLE)["number"].sort().to_list() == [1, 2]

    def test_writers_at_once_commit_each_row_once(self, lake: Lake) -> None:
        """Two of each application race for the same versions; the table does not exist yet."""
        barrier = threading.Barrier(6)
        fenced: list[str] = []

        def write(application: str) -> None:
            barrier.wait()
            for version in range(5):
                try:
                    number = ord(application) * 100 + version
                    lake.append(TABLE, _frame(number), application=application, version=version, after=version - 1)
                except Fenced:
                    fenced.append(application)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, "aabbcc"))
        found = lake.read(TABLE)["number"].to_list()
        assert len(found) == len(set(found))
        assert fenced, "of two that write as one, the slower is told"
        for application in "abc":
            done = lake.committed(TABLE, application)
            assert sorted(n % 100 for n in found if n // 100 == ord(application)) == list(range(done + 1))

    def test_compactions_at_once_keep_each_row_once(self, lake: Lake) -> None:
        for number in range(6):
            lake.append(TABLE, _frame(number), application="a", version=number)
        with ThreadPoolExecutor(4) as pool:
            compactions = [pool.submit(lake.compact, TABLE) for _ in range(4)]
            lake.append(TABLE, _frame(6), application="a", version=6)
            for compaction in compactions:
                compaction.result()
        assert lake.read(TABLE)["number"].sort().to_list() == list(range(7))

    def test_an_empty_frame_is_a_commit_too(self, lake: Lake) -> None:
        lake.append(TABLE, _frame().clear(), application="a", version=5)
        assert lake.committed(TABLE, "a") == 5
        assert lake.read(TABLE).schema == _frame().schema
        lake.append(TABLE, _frame(1), application="a", version=6)
        lake.append(TABLE, _frame().clear(), application="a", version=7)
        assert (lake.committed(TABLE, "a"), lake.read(TABLE).height) == (7, 1)

    def test_columns_may_be_added_and_left_out(self, lake: Lake) -> None:
        lake.append(TABLE, _frame(1).select("number"), application="a", version=1)
        lake.append(TABLE, _frame(6).select("number", "who"), application="a", version=2)
        lake.append(TABLE, _frame(9).select("who"), application="a", version=3)
        assert lake.read(TABLE).sort("number").rows() == [(None, "é9"), (1, None), (6, "é6")]

    def test_old_versions_stay_readable(self, lake: Lake) -> None:
        first = lake.overwrite(TABLE, _frame(1, 2))
        second = lake.overwrite(TABLE, _frame(3).select("number"))
        lake.append(TABLE, _frame(4).select("number"), application="a", version=1)
        lake.compact(TABLE)
        assert first < second < lake.version(TABLE)
        assert_frame_equal(lake.read(TABLE, version=first), _frame(1, 2))
        assert lake.read(TABLE, version=second)["number"].to_list() == [3]
        assert sorted(lake.read(TABLE)["number"].to_list()) == [3, 4]
        assert lake.committed(TABLE, "a") == 1

    def test_commits_are_counted_from_the_last_compaction(self, lake: Lake) -> None:
        assert lake.uncompacted(TABLE, limit=9) == 0
        for number in range(3):
            lake.append(TABLE, _frame(number), application="a", version=number)
        assert (lake.uncompacted(TABLE, limit=9), lake.uncompacted(TABLE, limit=2)) == (3, 2)
        lake.compact(TABLE)
        assert lake.uncompacted(TABLE, limit=9) == 0
        lake.append(TABLE, _frame(3), application="a", version=3)
        assert lake.uncompacted(TABLE, limit=9) == 1

    def test_a_vacuum_leaves_the_newest_and_the_kept_versions(self, lake: Lake) -> None:
        versions = [lake.overwrite(TABLE, _frame(number, 7)) for number in range(4)]
        assert lake.vacuum(TABLE, hours=1) == [], "given up less than an hour ago"
        assert len(lake.vacuum(TABLE, hours=0, keep=[versions[1]])) == 2
        assert_frame_equal(lake.read(TABLE, version=versions[1]), _frame(1, 7))
        assert_frame_equal(lake.read(TABLE), _frame(3, 7))
        for gone in (versions[0], versions[2]):
            with pytest.raises(CheckFailed):
                lake.read(TABLE, version=gone)
        before = lake.version(TABLE)
        assert lake.vacuum(TABLE, hours=0, keep=[versions[1]]) == []
        assert lake.version(TABLE) == before
        assert len(lake.vacuum(TABLE, hours=0)) == 1
        lake.append(TABLE, _frame(9), application="a", version=1)
        assert sorted(lake.read(TABLE)["number"].to_list()) == [3, 7, 9]
        with pytest.raises(NotFound):
            lake.vacuum("shop/unknown", hours=0)

    def test_columns_are_chosen_and_rows_filtered(self, lake: Lake) -> None:
        lake.append(TABLE, _frame(*range(10)), application="a", version=1)
        assert lake.read(TABLE, columns=["who", "number"]).columns == ["who", "number"]
        assert lake.scan(TABLE).filter(pl.col("number") > 6).collect().height == 3
        with pytest.raises(NotFound, match="`price`"):
            lake.read(TABLE, columns=["prise"])

    def test_unknown_tables_and_versions_are_named(self, lake: Lake) -> None:
        lake.append(TABLE, _frame(1), application="a", version=1)
        with pytest.raises(NotFound, match="orders"):
            lake.read("shop/streams/order")
        with pytest.raises(NotFound, match="version 9"):
            lake.read(TABLE, version=9)

    def test_a_name_that_leaves_the_lake_is_refused(self, lake: Lake) -> None:
        with pytest.raises(InvalidInput):
            lake.overwrite("../outside", _frame(1))
