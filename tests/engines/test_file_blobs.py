from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from headrace.engines.blobs.files import FileBlobs
from headrace.engines.conformance.blobs import BlobConformance
from headrace.kernel.errors import CheckFailed


class TestFileBlobs(BlobConformance):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> FileBlobs:
        return FileBlobs(tmp_path)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put("shop", b"content")
    (tmp_path / "shop" / digest[:2] / digest).write_bytes(b"Content")
    with pytest.raises(CheckFailed, match=digest):
        blobs.get("shop", digest)


def test_what_a_killed_writer_left_is_no_blob(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = hashlib.sha256(b"content").hexdigest()
    (tmp_path / "shop" / digest[:2]).mkdir(parents=True)
    (tmp_path / "shop" / digest[:2] / ".0123").write_bytes(b"con")
    assert list(blobs.digests("shop")) == []
    assert blobs.put("shop", b"content") == digest
    assert list(blobs.digests("shop")) == [digest]
