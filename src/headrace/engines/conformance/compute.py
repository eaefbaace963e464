"""What every compute engine does. Subclass `ComputeConformance` and give the fixture `compute`."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from headrace.engines.compute.port import Compute, Job
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, NotFound

HERE = "headrace.engines.conformance.compute"


def double(arguments: dict[str, Any]) -> dict[str, Any]:
    """A job."""
    return {"twice": arguments["number"] * 2, "text": arguments["text"]}


def refuse(arguments: dict[str, Any]) -> None:
    """A job that raises our own error."""
    raise InvalidInput(f"{arguments['number']} is refused", hint="take another")


def break_down(arguments: dict[str, Any]) -> None:
    """A job that raises a foreign error."""
    raise ZeroDivisionError("by nothing")


def die(arguments: dict[str, Any]) -> None:
    """A job whose process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(arguments: dict[str, Any]) -> None:
    """A job whose process ends without a result."""
    os._exit(7)


def wait(arguments: dict[str, Any]) -> str:
    """A job that takes `seconds`."""
    MACHINE.sleep(arguments["seconds"])
    return "waited"


def allocate(arguments: dict[str, Any]) -> int:
    """A job that takes `bytes` of memory."""
    return len(bytearray(arguments["bytes"]))


class ComputeConformance:
    @pytest.fixture
    def compute(self) -> Compute:
        raise NotImplementedError("give a fixture `compute`, closed after use")

    def test_a_job_gets_its_arguments_and_returns_json(self, compute: Compute) -> None:
        job_id = compute.submit(Job(f"{HERE}:double", {"number": 21, "text": "ä\n\u2603"}))
        result = compute.result(job_id)
        assert (result.state, result.value, result.error) == ("finished", {"twice": 42, "text": "ä\n\u2603"}, "")
        assert compute.result(job_id) == result

    def test_many_jobs_each_give_their_own_result(self, compute: Compute) -> None:
        ids = [compute.submit(Job(f"{HERE}:double", {"number": n, "text": ""}, cpus=0.5)) for n in range(6)]
        assert [compute.result(i).value["twice"] for i in ids] == [0, 2, 4, 6, 8, 10]
        assert len(set(ids)) == 6

    def test_an_error_of_ours_keeps_its_message_and_hint(self, compute: Compute) -> None:
        result = compute.result(compute.submit(Job(f"{HERE}:refuse", {"number": 3})))
        assert (result.state, result.error) == ("failed", "3 is refused\nhint: take another")

    def test_a_foreign_error_is_named(self, compute: Compute) -> None:
        result = compute.result(compute.submit(Job(f"{HERE}:break_down", {})))
        assert (result.state, result.error) == ("failed", "ZeroDivisionError: by nothing")

    @pytest.mark.parametrize("entry", [f"{HERE}:absent", "headrace.absent:main"])
    def test_an_unknown_entry_fails(self, compute: Compute, entry: str) -> None:
        result = compute.result(compute.submit(Job(entry, {})))
        assert result.state == "failed" and "absent" in result.error

    def test_a_killed_child_is_failed_and_says_so(self, compute: Compute) -> None:
        result = compute.result(compute.submit(Job(f"{HERE}:die", {})))
        assert result.state == "failed" and result.killed and "SIGKILL" in result.error

    def test_a_child_that_leaves_without_a_result_is_failed(self, compute: Compute) -> None:
        result = compute.result(compute.submit(Job(f"{HERE}:leave", {})))
        assert result.state == "failed" and not result.killed and "exit code 7" in result.error

    def test_waiting_ends_at_the_timeout_and_a_running_job_can_be_cancelled(self, compute: Compute) -> None:
        job_id = compute.submit(Job(f"{HERE}:wait", {"seconds": 60}))
        assert compute.result(job_id, timeout=0.05).state in ("queued", "running")
        compute.cancel(job_id)
        result = compute.result(job_id, timeout=10)
        assert result.state == "failed" and "cancelled" in result.error

    def test_a_queued_job_can_be_cancelled(self, compute: Compute) -> None:
        first = compute.submit(Job(f"{HERE}:wait", {"seconds": 60}, cpus=1000))
        second = compute.submit(Job(f"{HERE}:wait", {"seconds": 60}, cpus=1000))
        assert compute.result(second, timeout=0.05).state == "queued"
        compute.cancel(second)
        assert compute.result(second, timeout=1).state == "failed"
        compute.cancel(first)
        assert compute.result(first, timeout=10).state == "failed"

    def test_a_job_over_its_memory_limit_fails(self, compute: Compute) -> None:
        job = Job(f"{HERE}:allocate", {"bytes": 4 << 30}, memory=2 << 30)
        result = compute.result(compute.submit(job))
        assert result.state == "failed" and "MemoryError" in result.error

    def test_an_unknown_job_is_not_found(self, compute: Compute) -> None:
        with pytest.raises(NotFound, match="no-such-job"):
            compute.result("no-such-job")
