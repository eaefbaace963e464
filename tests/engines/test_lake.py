from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from headrace.app.cli import run_command
from headrace.engines.conformance.lake import LakeConformance
from headrace.engines.lake.delta import DeltaLake


class TestDeltaLake(LakeConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> DeltaLake:
        return DeltaLake(tmp_path)


@pytest.mark.parametrize("name", ["my data", "données", "100%"])
def test_a_folder_whose_name_is_quoted_in_urls_is_read(tmp_path: Path, name: str) -> None:
    lake = DeltaLake(tmp_path / name)
    assert lake.append("t", pl.DataFrame({"x": [1]}), application="a", version=1) >= 0
    lake.append("t", pl.DataFrame({"x": [2], "y": ["new"]}), application="a", version=2)
    assert sorted(lake.read("t").rows()) == [(1, None), (2, "new")]
    assert lake.read("t", version=0, columns=["x"]).rows() == [(1,)]


@pytest.mark.parametrize("name", ["my%20data", "a/b%2Fc"])
def test_a_folder_whose_name_is_the_escape_of_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / name)
    for folder in (tmp_path / name, tmp_path / "link"):
        assert run_command(["run", "--data", str(folder), "--port", "0"]) == 3
        assert "which the lake would read as" in capsys.readouterr().err
    assert not list((tmp_path / name).iterdir())
