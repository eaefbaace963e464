from __future__ import annotations

from pathlib import Path

import pytest

from headrace.engines.conformance.lake import LakeConformance
from headrace.engines.lake.delta import DeltaLake


class TestDeltaLake(LakeConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> DeltaLake:
        return DeltaLake(tmp_path)
