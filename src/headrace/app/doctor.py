"""`headrace doctor`: what is wrong on this machine and in this installation, each with its cause and its mending command."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from headrace.app.client import request
from headrace.app.integrity import Finding, check_data
from headrace.app.output import show
from headrace.app.run import READY_NOTE
from headrace.app.world import known_systems
from headrace.engines.open import DATA_FORMAT, event_log_repairs, url_problems
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError
from headrace.kernel.settings import Settings
from headrace.kernel.times import format_time
from headrace.ledger.checkpoint import key_path, load_key
from headrace.system.checking import check

OTHER_FOLDER = "headrace run FILE --data OTHER"
LEAST_FREE_BYTES = 1 << 30
EARLIEST_SANE = 1_735_689_600_000_000
"""2025-01-01: an earlier machine clock is wrong."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    ok: bool
    findings: list[Finding]


def diagnose(settings: Settings, file: str | None, port: int) -> Diagnosis:
    """Look at everything; each look is independent of the others."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _clock,
        lambda: _urls(settings),
        lambda: _data_folder(settings),
        lambda: _event_log(settings),
        lambda: _disk(settings.data),
        lambda: _signing_key(settings),
        lambda: _port(settings.data, port),
        lambda: _systems(settings, file),
        lambda: _server(settings),
    ]
    findings = [finding for look in looks for finding in _unhindered(look)]
    return Diagnosis(all(finding.ok for finding in findings), findings)


def _unhindered(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What the look finds; that it may not read something is a finding too."""
    try:
        yield from look()
    except OSError as error:
        command = f"ls -ld {error.filename}"
        yield Finding("files", False, f"`{error.filename}`", f"`{error.filename}`: {error.strerror}", command)


def show_diagnosis(diagnosis: Diagnosis, *, as_json: bool) -> None:
    """The findings, bad ones with cause and command."""
    if as_json:
        show(diagnosis, as_json=True)
        return
    for finding in diagnosis.findings:
        show(f"{'ok ' if finding.ok else 'BAD'} {finding.check}: {finding.found}", as_json=False)
        if not finding.ok:
            show(f"    cause: {finding.cause}\n    mend:  {finding.command}", as_json=False)


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", True, python)
    bad = 0
    for requirement in metadata.requires("headrace") or []:
        text, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra is not None and extra[1] != "train":
            continue
        finding = _library(text.strip(), extra is not None)
        if not finding.ok:
            bad += 1
            yield finding
    if not bad:
        yield Finding("libraries", True, f"headrace {metadata.version('headrace')}, all libraries installed")


def _library(requirement: str, for_training: bool) -> Finding:
    match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9.]+))?", requirement)
    assert match is not None, requirement
    name, least = match[1], match[2] or "0"
    command = "pip install 'headrace[train]'" if for_training else "pip install --upgrade headrace"
    if name == "headrace":
        return Finding(name, True, "itself")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        cause = f"`{name}` is not installed" + (": models cannot be trained here" if for_training else "")
        return Finding(f"library {name}", False, "absent", cause, command)
    if _numbers(version) < _numbers(least):
        return Finding(f"library {name}", False, version, f"headrace needs {name} {least} or newer", command)
    return Finding(f"library {name}", True, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _judged(check: str, good: bool, found: str, cause: str, command: str) -> Finding:
    """A finding that has its cause and command only when it is bad."""
    return Finding(check, good, found) if good else Finding(check, good, found, cause, command)


def _clock() -> Iterator[Finding]:
    now = MACHINE.now()
    good = now >= EARLIEST_SANE
    yield _judged("clock", good, format_time(now), "the machine's clock is wrong", "timedatectl set-ntp true")


def _urls(settings: Settings) -> Iterator[Finding]:
    problems = list(url_problems(settings))
    for problem in problems:
        yield Finding("engine URLs", False, "refused", problem.message, problem.hint)
    if not problems:
        yield Finding("engine URLs", True, "embedded engines" if not settings.catalog else "a catalog URL, embedded engines")


def _data_folder(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    mark = data / "format"
    if not data.exists():
        yield _absent(data)
        return
    if not data.is_dir():
        yield Finding("data folder", False, f"`{data}`", f"`{data}` is no folder", OTHER_FOLDER)
        return
    if not mark.exists():
        empty = not any(data.iterdir())
        yield _judged("data folder", empty, f"`{data}`", f"`{data}` is not empty and is no data folder", OTHER_FOLDER)
        return
    found = mark.read_text().strip()
    if not found.isdigit() or int(found) > DATA_FORMAT:
        cause = f"`{data}` has data format {found}, this headrace reads up to {DATA_FORMAT}"
        yield Finding("data format", False, found, cause, "pip install --upgrade headrace")
        return
    yield Finding("data folder", True, f"`{data}`, format {found}")
    probe = data / ".doctor"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield Finding("data folder writable", False, str(error.strerror), f"`{data}` cannot be written", f"chmod -R u+w {data}")


def _absent(data: Path) -> Finding:
    """Whether the first run can make the folder: permissions alone do not say, as in /proc, so one is made and removed."""
    place = _nearest(data)
    try:
        Path(tempfile.mkdtemp(prefix=".headrace-doctor-", dir=place)).rmdir()
    except OSError as error:
        cause = f"`{data}` cannot be made in `{place}`: {error.strerror}"
        return Finding("data folder", False, f"`{data}` does not exist", cause, OTHER_FOLDER)
    return Finding("data folder", True, f"`{data}` does not exist yet; the first run makes it")


def _nearest(data: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(folder for folder in (data.resolve(), *data.resolve().parents) if folder.exists())


def _event_log(settings: Settings) -> Iterator[Finding]:
    """Unfinished appends of killed writers: they were never acknowledged, so they are no fault, but they are told."""
    found = event_log_repairs(settings)
    if not found:
        return
    last = found[-1]
    shown = f"{len(found)} unfinished appends were cut off, kept in files such as `{last.path}` ({last.size} bytes)"
    yield Finding("event log", True, shown)


def _disk(data: Path) -> Iterator[Finding]:
    place = _nearest(data)
    free = shutil.disk_usage(place).free
    shown = f"{free / (1 << 30):.1f} GiB free at `{place}`"
    yield _judged("disk", free >= LEAST_FREE_BYTES, shown, "less than 1 GiB is free", f"du -xh {place} | sort -h | tail")


def _signing_key(settings: Settings) -> Iterator[Finding]:
    path = key_path(settings)
    try:
        key = load_key(settings, create=False)
    except HeadraceError as error:
        yield Finding("signing key", False, f"`{path}`", error.message, error.hint)
        return
    if key is None:
        yield Finding("signing key", True, "none yet; the first record makes it")
        return
    closed = not path.stat().st_mode & 0o077
    yield _judged("signing key", closed, f"`{path}`", f"others can read `{path}`", f"chmod 600 {path}")


def _port(data: Path, port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            busy = error
        else:
            yield Finding(f"port {port}", True, "free")
            return
    owner = _running_on(data, port)
    if owner is not None:
        yield Finding(f"port {port}", True, f"the system `{owner}` of this data folder answers there")
    else:
        yield Finding(f"port {port}", False, str(busy.strerror), "another program uses it", "headrace run FILE --port 0")


def _running_on(data: Path, port: int) -> str | None:
    """The system of this data folder that runs on the port, by its ready line; a dead process leaves one behind."""
    for note in data.glob(f"run/*/{READY_NOTE}"):
        ready = msgspec.json.decode(note.read_bytes())
        if ready["http"].endswith(f":{port}") and Path(f"/proc/{ready['pid']}").exists():
            return note.parent.name
    return None


def _systems(settings: Settings, file: str | None) -> Iterator[Finding]:
    files = {file: file} if file else {}
    try:
        if (settings.data / "format").exists():
            known = known_systems(settings)
            files.update({s.file: f"system {s.name}" for s in known if s.file})
            yield from check_data(settings, known)
    except HeadraceError as error:
        yield Finding("catalog", False, "cannot be opened", error.message, error.hint)
    for reference, name in files.items():
        path = reference.partition(":")[0]
        if not Path(path).is_file():
            yield Finding(name, False, "missing", f"there is no system file `{path}`", "headrace run FILE, from its new place")
            continue
        problems = check(reference).problems
        yield _judged(name, not problems, f"`{path}`", f"{len(problems)} problems", f"headrace check {reference}")


def _server(settings: Settings) -> Iterator[Finding]:
    if not settings.url:
        return
    try:
        request(settings.url, "GET", "/health/live", b"", timeout=1.0)
    except HeadraceError as error:
        yield Finding("HEADRACE_URL", False, settings.url, error.message, error.hint)
    else:
        yield Finding("HEADRACE_URL", True, settings.url)
