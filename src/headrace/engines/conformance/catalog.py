"""What every catalog does. Subclass `CatalogConformance` and give the fixture `open_catalog`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Column, Integer, String, Table, select

from headrace.engines.catalog.port import METADATA, Catalog
from headrace.kernel.clocks import MACHINE

COUNTERS = Table(
    "conformance_counters",
    METADATA,
    Column("system", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Integer, nullable=False),
)


def add_one(catalog: Catalog, name: str) -> None:
    """Read, then write what was read plus one: only correct when write transactions come one after the other."""
    mine = (COUNTERS.c.system == "shop") & (COUNTERS.c.name == name)
    with catalog.transaction() as connection:
        value = connection.execute(select(COUNTERS.c.value).where(mine)).scalar()
        if value is None:
            connection.execute(COUNTERS.insert().values(system="shop", name=name, value=1))
        else:
            connection.execute(COUNTERS.update().where(mine).values(value=value + 1))


def value_of(catalog: Catalog, name: str) -> int | None:
    """The counter's value."""
    with catalog.reading() as connection:
        return connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == name)).scalar()


class CatalogConformance:
    @pytest.fixture
    def open_catalog(self) -> Callable[[], Catalog]:
        raise NotImplementedError("give a fixture `open_catalog`: each call opens the same, first empty database")

    @pytest.fixture
    def catalog(self, open_catalog: Callable[[], Catalog]) -> Iterator[Catalog]:
        catalog = open_catalog()
        yield catalog
        catalog.close()

    def test_a_transaction_commits(self, catalog: Catalog, open_catalog: Callable[[], Catalog]) -> None:
        add_one(catalog, "visits")
        again = open_catalog()
        assert value_of(again, "visits") == 1
        again.close()

    def test_an_exception_rolls_back_and_the_catalog_goes_on(self, catalog: Catalog) -> None:
        with pytest.raises(ZeroDivisionError), catalog.transaction() as connection:
            connection.execute(COUNTERS.insert().values(system="shop", name="visits", value=1))
            raise ZeroDivisionError
        assert value_of(catalog, "visits") is None
        add_one(catalog, "visits")
        assert value_of(catalog, "visits") == 1

    def test_a_reader_sees_one_state_while_another_writes(self, catalog: Catalog) -> None:
        add_one(catalog, "visits")
        query = select(COUNTERS.c.value)
        with catalog.reading() as connection:
            assert connection.execute(query).scalar() == 1
            add_one(catalog, "visits")
            assert connection.execute(query).scalar() in (1, 2)
        assert value_of(catalog, "visits") == 2

    def test_a_reader_does_not_see_what_is_not_committed(self, catalog: Catalog) -> None:
        with catalog.transaction() as connection:
            connection.execute(COUNTERS.insert().values(system="shop", name="visits", value=1))
            assert value_of(catalog, "visits") is None

    def test_write_transactions_of_threads_come_one_after_the_other(self, catalog: Catalog) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: add_one(catalog, "visits"), range(80)))
        assert value_of(catalog, "visits") == 80

    def test_many_readers_at_once(self, catalog: Catalog) -> None:
        add_one(catalog, "visits")
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda _: value_of(catalog, "visits"), range(100))) == {1}

    def test_every_commit_changes_the_number_of_changes_and_nothing_else_does(
        self, catalog: Catalog, open_catalog: Callable[[], Catalog]
    ) -> None:
        other = open_catalog()
        seen = catalog.changes()
        assert value_of(catalog, "visits") is None
        with pytest.raises(ZeroDivisionError), catalog.transaction() as connection:
            connection.execute(COUNTERS.insert().values(system="shop", name="visits", value=1))
            raise ZeroDivisionError
        assert catalog.changes() == seen
        for writer in (catalog, other, catalog):
            add_one(writer, "visits")
            assert catalog.changes() != seen
            seen = catalog.changes()
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: catalog.changes(), range(20))) == {seen}
        other.close()

    def test_a_lease_has_one_holder_until_it_ends(self, catalog: Catalog) -> None:
        assert catalog.lease("shop/loop", "first", 0.2)
        assert catalog.lease("shop/loop", "first", 0.2)
        assert not catalog.lease("shop/loop", "second", 0.2)
        assert catalog.lease("shop/other", "second", 0.2)
        MACHINE.sleep(0.25)
        assert catalog.lease("shop/loop", "second", 60)
        assert not catalog.lease("shop/loop", "first", 0.2)
