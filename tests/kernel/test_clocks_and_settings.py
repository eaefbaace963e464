"""The two clocks; settings from their four places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.kernel.clocks import MACHINE, FixedEventClock, RealEventClock, VirtualEventClock
from headrace.kernel.errors import Denied, InvalidInput
from headrace.kernel.settings import Settings, load_settings, resolve_reference


def test_a_virtual_clock_only_advances_and_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = VirtualEventClock(tmp_path / "clock" / "fraud", start=1_000)
    assert clock.now() == 1_000
    clock.set(2_000)
    clock.set(2_000)
    with pytest.raises(InvalidInput, match="cannot go back"):
        clock.set(1_999)
    assert VirtualEventClock(tmp_path / "clock" / "fraud", start=5).now() == 2_000


def test_another_process_sees_a_virtual_clock_advance(tmp_path: Path) -> None:
    clock = VirtualEventClock(tmp_path / "clock", start=1)
    clock.set(123_456)
    path = str(tmp_path / "clock")
    code = f"from headrace.kernel.clocks import *; c = VirtualEventClock(Path({path!r})); print(c.now()); c.set(777_777)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "123456"
    assert clock.now() == 777_777


def test_the_real_clock_cannot_be_set() -> None:
    with pytest.raises(Denied, match="clock of this system is real"):
        RealEventClock().set(0)
    assert abs(RealEventClock().now() - MACHINE.now()) < 60_000_000
    assert not RealEventClock().virtual
    assert FixedEventClock(7).now() == 7


def test_the_machine_clock_sleeps_and_counts() -> None:
    before = MACHINE.monotonic()
    MACHINE.sleep(0.01)
    assert MACHINE.monotonic() - before >= 0.01


def test_settings_come_from_flag_then_environment_then_file_then_default(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('data = "from-file"\nlog_level = "debug"\nurl = "http://file"\n')
    environment = {"HEADRACE_DATA": "from-environment", "HEADRACE_URL": "http://environment"}
    found = load_settings({"data": "from-flag", "url": None}, environment=environment, file=file)
    assert found.data == Path("from-flag")
    assert found.url == "http://environment"
    assert found.log_level == "debug"
    assert found.log_format == Settings().log_format
    assert load_settings(environment={}, file=tmp_path / "none.toml") == Settings()


def test_a_wrong_settings_file_is_refused_by_its_line_or_key(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("dta = 'x'\n")
    with pytest.raises(InvalidInput, match=r"unknown setting `dta`.*known: .*data"):
        load_settings(environment={}, file=file)
    file.write_text("data = \n")
    with pytest.raises(InvalidInput, match="is not TOML"):
        load_settings(environment={}, file=file)
    file.write_text("catalog = 5\n")
    with pytest.raises(InvalidInput, match=r"`catalog` in .* is 5; allowed: a text"):
        load_settings(environment={}, file=file)
    file.write_bytes(b'data = "\xff"\n')
    with pytest.raises(InvalidInput, match="is not TOML"):
        load_settings(environment={}, file=file)


def test_a_reference_hides_a_secret_in_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    (tmp_path / "password").write_text("from file\n")
    assert resolve_reference("env:SHOP_PASSWORD") == "s3cret"
    assert resolve_reference(f"file:{tmp_path / 'password'}") == "from file"
    assert resolve_reference("sqlite:///data.sqlite") == "sqlite:///data.sqlite"
    with pytest.raises(InvalidInput, match="environment variable that is not set"):
        resolve_reference("env:NO_SUCH_VARIABLE_HERE")
    with pytest.raises(InvalidInput, match="cannot be read"):
        resolve_reference(f"file:{tmp_path / 'absent'}")
