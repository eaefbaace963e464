"""What every online store does. Subclass `OnlineConformance` and give the fixture `online`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.engines.online.port import OnlineStore


class OnlineConformance:
    @pytest.fixture
    def online(self) -> OnlineStore:
        raise NotImplementedError("give a fixture `online`: an empty store")

    def test_what_was_written_is_read(self, online: OnlineStore) -> None:
        online.write({b"shop/a": b"1", b"shop/b": b"", b"shop/c": bytes(range(256)) * 4_000})
        assert online.get(b"shop/a") == b"1"
        assert online.get(b"shop/b") == b""
        assert online.get(b"shop/c") == bytes(range(256)) * 4_000
        assert online.get(b"shop/d") is None

    def test_many_keys_are_answered_in_order(self, online: OnlineStore) -> None:
        online.write({b"shop/a": b"1", b"shop/b": b"2"})
        assert online.get_many([b"shop/b", b"shop/x", b"shop/a", b"shop/b"]) == [b"2", None, b"1", b"2"]
        assert online.get_many(iter([b"shop/a"])) == [b"1"]
        assert online.get_many([]) == []

    def test_values_are_replaced_and_deleted(self, online: OnlineStore) -> None:
        online.write({b"shop/a": b"1", b"shop/b": b"2"})
        online.write({b"shop/a": None, b"shop/b": b"3", b"shop/never": None, b"shop/c": b"4"})
        assert online.get_many([b"shop/a", b"shop/b", b"shop/c"]) == [None, b"3", b"4"]

    def test_a_conditional_write_is_done_whole_or_not_at_all(self, online: OnlineStore) -> None:
        online.write({b"shop/a": b"1"})
        assert not online.write_if({b"shop/a": b"2", b"shop/b": b"2"}, {b"shop/a": b"1", b"shop/b": b"1"})
        assert not online.write_if({b"shop/a": None}, {b"shop/a": None})
        assert online.get_many([b"shop/a", b"shop/b"]) == [b"1", None]
        assert online.write_if({b"shop/a": None, b"shop/b": b"2"}, {b"shop/a": b"1", b"shop/b": None})
        assert online.get_many([b"shop/a", b"shop/b"]) == [None, b"2"]

    def test_of_conditional_writers_at_once_one_succeeds(self, online: OnlineStore) -> None:
        online.write({b"shop/n": b"0"})

        def count(_: int) -> None:
            for _ in range(100):
                while True:
                    found = online.get(b"shop/n")
                    assert found is not None
                    if online.write_if({b"shop/n": b"%d" % (int(found) + 1)}, {b"shop/n": found}):
                        break

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(count, range(3)))
        assert online.get(b"shop/n") == b"300"

    def test_a_scan_gives_its_prefix_in_key_order(self, online: OnlineStore) -> None:
        online.write({key: key for key in (b"shop/b", b"shop/a/2", b"shop/a/10", b"shop/a\xff", b"shoq", b"s", b"shop/a/")})
        assert [key for key, _ in online.scan(b"shop/a/")] == [b"shop/a/", b"shop/a/10", b"shop/a/2"]
        assert [key for key, _ in online.scan(b"shop/a/", start=b"shop/a/10")] == [b"shop/a/10", b"shop/a/2"]
        assert next(key for key, _ in online.scan(b"shop/a/", start=b"shop")) == b"shop/a/"
        assert list(online.scan(b"shop/x")) == list(online.scan(b"shop/a/", start=b"shop/a\xff")) == []
        assert [key for key, _ in online.scan(b"")] == sorted(
            [b"shop/b", b"shop/a/2", b"shop/a/10", b"shop/a\xff", b"shoq", b"s", b"shop/a/"]
        )

    def test_keys_of_500_bytes_are_kept_apart(self, online: OnlineStore) -> None:
        online.write({b"k" * 499 + b"a": b"1", b"k" * 499 + b"b": b"2"})
        assert online.get_many([b"k" * 499 + b"a", b"k" * 499 + b"b"]) == [b"1", b"2"]

    def test_a_scan_is_not_disturbed_by_writes(self, online: OnlineStore) -> None:
        online.write({b"shop/%03d" % n: b"old" for n in range(100)})
        scan = online.scan(b"shop/")
        first = next(scan)
        online.write({b"shop/%03d" % n: None for n in range(50, 100)})
        rest = list(scan)
        if online.atomic:
            assert [first, *rest] == [(b"shop/%03d" % n, b"old") for n in range(100)]

    def test_writes_are_seen_whole(self, online: OnlineStore) -> None:
        """A writer keeps two keys equal; readers never see them differ."""
        if not online.atomic:
            pytest.skip("this engine has no transactions")
        online.write({b"shop/x": b"0", b"shop/y": b"0"})
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                one, other = online.get_many([b"shop/x", b"shop/y"])
                assert one == other

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for n in range(300):
                online.write({b"shop/x": b"%d" % n, b"shop/y": b"%d" % n})
            done.set()
            for reader in readers:
                reader.result()
        assert online.get(b"shop/x") == b"299"
