"""What every blob store does. Subclass `BlobConformance` and give the fixture `blobs`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.engines.blobs.port import BlobStore
from headrace.kernel.errors import NotFound


class BlobConformance:
    @pytest.fixture
    def blobs(self) -> BlobStore:
        raise NotImplementedError("give a fixture `blobs`: an empty store")

    @pytest.mark.parametrize("content", [b"", b"text", bytes(range(256)) * 5000])
    def test_content_comes_back_by_its_sha256(self, blobs: BlobStore, content: bytes) -> None:
        digest = blobs.put("shop", content)
        assert digest == hashlib.sha256(content).hexdigest()
        assert blobs.get("shop", digest) == content

    def test_storing_again_changes_nothing(self, blobs: BlobStore) -> None:
        assert blobs.put("shop", b"once") == blobs.put("shop", b"once")
        assert list(blobs.digests("shop")) == [hashlib.sha256(b"once").hexdigest()]

    def test_a_prefix_sees_only_its_own(self, blobs: BlobStore) -> None:
        digest = blobs.put("shop", b"mine")
        assert list(blobs.digests("other")) == []
        with pytest.raises(NotFound):
            blobs.get("other", digest)

    @pytest.mark.parametrize("digest", ["", "0" * 64, "../../format", "../" * 21 + "a", "A" * 64])
    def test_what_is_not_there_is_not_found(self, blobs: BlobStore, digest: str) -> None:
        blobs.put("shop", b"something")
        with pytest.raises(NotFound):
            blobs.get("shop", digest)

    def test_many_threads_may_store_the_same_and_other_content(self, blobs: BlobStore) -> None:
        contents = [str(n % 5).encode() * 1000 for n in range(40)]
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(lambda content: blobs.put("shop", content), contents))
        assert sorted(set(digests)) == sorted(blobs.digests("shop"))
        assert [blobs.get("shop", digest) for digest in digests] == contents
