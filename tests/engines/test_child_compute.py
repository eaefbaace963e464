from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.engines.compute.children import ChildCompute
from headrace.engines.compute.port import Job
from headrace.engines.conformance.compute import HERE, ComputeConformance
from headrace.kernel.errors import InvalidInput

PARENT = f"""
import sys, time
from pathlib import Path
from headrace.engines.compute.children import ChildCompute
from headrace.engines.compute.port import Job
compute = ChildCompute(Path(sys.argv[1]))
job = compute.submit(Job("{HERE}:wait", {{"seconds": 60}}))
while compute.result(job, timeout=0.01).state != "running":
    pass
print("running", flush=True)
time.sleep(60)
"""


class TestChildCompute(ComputeConformance):
    @pytest.fixture
    def compute(self, tmp_path: Path) -> Iterator[ChildCompute]:
        compute = ChildCompute(tmp_path / "jobs")
        yield compute
        compute.close()


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def wait_until(condition, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "running\n"
        (child,) = children_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_a_job_outlives_the_thread_that_submitted_it(tmp_path: Path) -> None:
    compute = ChildCompute(tmp_path)
    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.append(compute.submit(Job(f"{HERE}:wait", {"seconds": 0.5}))))
    thread.start()
    thread.join()
    assert compute.result(ids[0]).value == "waited"
    compute.close()


def test_jobs_queue_for_the_processors(tmp_path: Path) -> None:
    compute = ChildCompute(tmp_path, cpus=1)
    first = compute.submit(Job(f"{HERE}:wait", {"seconds": 0.3}))
    second = compute.submit(Job(f"{HERE}:wait", {"seconds": 0}))
    assert compute.result(first, timeout=0.1).state == "running"
    assert compute.result(second, timeout=0).state == "queued"
    assert compute.result(second).state == "finished"
    assert compute.result(first, timeout=0).state == "finished"
    compute.close()


def test_close_ends_what_runs_and_what_waits_and_starts_no_thread_before_a_job(tmp_path: Path) -> None:
    before = threading.active_count()
    ChildCompute(tmp_path / "idle").close()
    compute = ChildCompute(tmp_path / "jobs", cpus=1)
    assert threading.active_count() == before
    ids = [compute.submit(Job(f"{HERE}:wait", {"seconds": 60})) for _ in range(2)]
    assert wait_until(lambda: compute.result(ids[0], timeout=0).state == "running")
    compute.close()
    assert [compute.result(i, timeout=0).state for i in ids] == ["failed", "failed"]
    assert not [c for c in children_of(os.getpid()) if b"compute.child" in Path(f"/proc/{c}/cmdline").read_bytes()]
    with pytest.raises(InvalidInput, match="closed"):
        compute.submit(Job(f"{HERE}:wait", {"seconds": 0}))


def test_a_job_that_cannot_be_started_fails_and_holds_up_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.write_text("no folder")
    compute = ChildCompute(folder)
    result = compute.result(compute.submit(Job(f"{HERE}:wait", {"seconds": 0})), timeout=10)
    assert result.state == "failed" and str(folder) in result.error
    folder.unlink()
    assert compute.result(compute.submit(Job(f"{HERE}:wait", {"seconds": 0})), timeout=60).value == "waited"
    compute.close()


def test_output_is_kept_and_gpus_are_refused(tmp_path: Path) -> None:
    compute = ChildCompute(tmp_path)
    job = compute.submit(Job(f"{HERE}:break_down", {}))
    compute.result(job)
    assert "ZeroDivisionError: by nothing" in (tmp_path / f"{job}.log").read_text()
    assert [path.name for path in tmp_path.iterdir()] == [f"{job}.log"]
    with pytest.raises(InvalidInput, match="GPU"):
        compute.submit(Job(f"{HERE}:wait", {}, gpus=1))
    compute.close()
