"""Both online stores pass the conformance suite; the LMDB store survives what LMDB alone does not."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from headrace.engines.conformance.online import OnlineConformance
from headrace.engines.online.lmdb_store import LmdbStore
from headrace.engines.online.memory import MemoryOnline
from headrace.kernel.errors import EngineUnreachable, IncompatibleFormat, InvalidInput


class TestMemoryOnline(OnlineConformance):
    @pytest.fixture
    def online(self):
        store = MemoryOnline()
        yield store
        store.close()


class TestLmdbStore(OnlineConformance):
    @pytest.fixture
    def online(self, tmp_path):
        store = LmdbStore(tmp_path / "online")
        yield store
        store.close()


def test_the_map_grows_when_it_is_full(tmp_path):
    store = LmdbStore(tmp_path, map_size=1 << 20)
    store.write({b"first": b"1"})
    for n in range(64):
        store.write({b"key/%d" % n: b"x" * 100_000})
    assert store.get(b"first") == b"1"
    assert len(list(store.scan(b"key/"))) == 64
    store.close()


def test_reads_go_on_while_the_map_grows(tmp_path):
    store = LmdbStore(tmp_path, map_size=1 << 20)
    store.write({b"first": b"1"})
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            found = store.get_many([b"first"])
            if found != [b"1"]:
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(64):
        store.write({b"key/%d" % n: b"x" * 100_000})
    done.set()
    reader.join()
    store.close()
    assert wrong == []


CHILD = """
import os, signal, sys
from pathlib import Path
from headrace.engines.online.lmdb_store import LmdbStore
store = LmdbStore(Path(sys.argv[1]), map_size=1 << 20)
if sys.argv[2] == "grow":
    for n in range(64):
        store.write({b"key/%d" % n: b"x" * 100_000})
    store.close()
else:
    store.write({b"a": b"written"})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def child(folder, what):
    return subprocess.run([sys.executable, "-c", CHILD, str(folder), what], check=False).returncode


def test_another_process_may_write_and_grow_the_map(tmp_path):
    store = LmdbStore(tmp_path, map_size=1 << 20)
    assert store.get(b"key/63") is None
    assert child(tmp_path, "grow") == 0
    assert len(store.get(b"key/63")) == 100_000
    assert len(list(store.scan(b"key/"))) == 64
    store.close()


def test_a_killed_process_loses_nothing(tmp_path):
    assert child(tmp_path, "die") == -9
    store = LmdbStore(tmp_path)
    assert store.get(b"a") == b"written"
    assert not store.recovered_empty
    store.close()


def test_power_loss_empties_a_store_that_was_open(tmp_path):
    child(tmp_path, "die")
    store = LmdbStore(tmp_path, boot="another boot")
    assert store.recovered_empty
    assert store.get(b"a") is None
    store.close()


def test_a_store_closed_cleanly_survives_a_reboot(tmp_path):
    store = LmdbStore(tmp_path, boot="boot 1")
    store.write({b"a": b"1"})
    store.close()
    store = LmdbStore(tmp_path, boot="boot 2")
    assert (store.get(b"a"), store.recovered_empty) == (b"1", False)
    store.close()


def test_without_a_boot_id_only_a_clean_store_is_kept(tmp_path):
    store = LmdbStore(tmp_path, boot="")
    store.write({b"a": b"1"})
    store.close()
    store = LmdbStore(tmp_path, boot="")
    assert store.get(b"a") == b"1"
    store.close()
    (tmp_path / "mark").write_text('{"format":1,"boot":"","clean":false}')
    store = LmdbStore(tmp_path, boot="")
    assert store.recovered_empty
    store.close()


def test_two_stores_of_one_folder_share_it(tmp_path):
    first, second = LmdbStore(tmp_path), LmdbStore(tmp_path)
    first.write({b"a": b"1"})
    first.close()
    assert second.get(b"a") == b"1"
    second.close()
    with pytest.raises(EngineUnreachable, match="closed"):
        second.get(b"a")


def test_a_newer_format_is_refused(tmp_path):
    LmdbStore(tmp_path).close()
    (tmp_path / "mark").write_text('{"format":2,"boot":"b","clean":true}')
    with pytest.raises(IncompatibleFormat):
        LmdbStore(tmp_path)


def test_an_empty_key_is_invalid(tmp_path):
    store = LmdbStore(tmp_path)
    with pytest.raises(InvalidInput):
        store.write({b"": b"1"})
    store.close()
