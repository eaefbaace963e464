"""Compute as child processes of this machine: a queue bounded by the processors, children that die with their parent.

One thread starts every child and lives as long as the engine, because the kernel's parent-death signal is bound to the
*thread* that forked (prctl(2)). No thread exists before the first job.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from headrace.engines.compute.child import JobFile, Outcome
from headrace.engines.compute.port import Job, JobResult
from headrace.kernel.errors import InvalidInput, NotFound
from headrace.kernel.ids import new_id
from headrace.kernel.settings import child_environment

LOGS_KEPT = 100
QUEUED = JobResult("queued")
RUNNING = JobResult("running")


@dataclass
class _Entry:
    job: Job
    process: subprocess.Popen[bytes] | None = None
    result: JobResult = QUEUED
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        return self.result.state in ("finished", "failed")


class ChildCompute:
    """The embedded compute engine. `cpus`: processors that running jobs may ask for together (default: all that this
    process may use); a job that asks for more runs alone. What a job prints is kept in `FOLDER/{id}.log`."""

    def __init__(self, folder: Path, *, cpus: float | None = None) -> None:
        self._folder = folder
        self._cpus = cpus or len(os.sched_getaffinity(0))
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._starter: threading.Thread | None = None
        self._watchers: list[threading.Thread] = []
        self._closed = False

    def submit(self, job: Job) -> str:
        if job.gpus:
            raise InvalidInput(f"the job `{job.entry}` asks for {job.gpus} GPUs; this engine has none", hint="ask for gpus=0")
        job_id = new_id()
        with self._changed:
            if self._closed:
                raise InvalidInput("the compute engine is closed", hint="open it again")
            self._entries[job_id] = _Entry(job)
            self._waiting.append(job_id)
            if self._starter is None:
                self._starter = threading.Thread(target=self._start_jobs, name="compute", daemon=True)
                self._starter.start()
            self._changed.notify_all()
        return job_id

    def result(self, job_id: str, *, timeout: float | None = None) -> JobResult:
        with self._changed:
            entry = self._entry(job_id)
            self._changed.wait_for(lambda: entry.ended, timeout)
            return entry.result

    def cancel(self, job_id: str) -> None:
        with self._changed:
            self._cancel(job_id, self._entry(job_id))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for job_id, entry in self._entries.items():
                self._cancel(job_id, entry)
            self._changed.notify_all()
        for watcher in self._watchers:
            watcher.join()
        if self._starter is not None:
            self._starter.join()

    def _entry(self, job_id: str) -> _Entry:
        if job_id not in self._entries:
            raise NotFound(f"unknown job `{job_id}`", hint="job ids end with the process that submitted them")
        return self._entries[job_id]

    def _cancel(self, job_id: str, entry: _Entry) -> None:
        if entry.ended:
            return
        entry.cancelled = True
        if entry.process is None:
            self._waiting.remove(job_id)
            entry.result = JobResult("failed", error="cancelled before it started")
            self._changed.notify_all()
        else:
            os.killpg(entry.process.pid, signal.SIGKILL)

    def _start_jobs(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._fits())
                if self._closed:
                    return
                job_id = self._waiting.popleft()
                try:
                    self._start(job_id)
                except OSError as error:
                    place = error.filename or self._folder
                    failed = JobResult("failed", error=f"the job could not be started: `{place}`: {error.strerror}")
                    self._entries[job_id].result = failed
                    self._changed.notify_all()

    def _fits(self) -> bool:
        if not self._waiting:
            return False
        taken = sum(e.job.cpus for e in self._entries.values() if e.result is RUNNING)
        return not taken or taken + self._entries[self._waiting[0]].job.cpus <= self._cpus

    def _start(self, job_id: str) -> None:
        entry = self._entries[job_id]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_old_logs()
        file, log = self._folder / f"{job_id}.json", self._folder / f"{job_id}.log"
        result = str(self._folder / f"{job_id}.result")
        job = entry.job
        file.write_bytes(msgspec.json.encode(JobFile(job.entry, job.arguments, job.memory, os.getpid(), result)))
        threads = str(max(1, round(job.cpus)))
        environment = child_environment(
            {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": "0"}
        )
        with log.open("wb") as output:
            entry.process = self._spawn(file, output, environment)
        entry.result = RUNNING
        watcher = threading.Thread(target=self._watch, args=(job_id, entry.process), name="compute-watch", daemon=True)
        self._watchers = [w for w in self._watchers if w.is_alive()]
        self._watchers.append(watcher)
        watcher.start()

    @staticmethod
    def _spawn(file: Path, output: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace.engines.compute.child", str(file)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip

    def _watch(self, job_id: str, process: subprocess.Popen[bytes]) -> None:
        # Waited for without reaping: until the lock is held the process id stays ours, so that a kill meets no stranger.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._changed:
            status = process.wait()
            entry = self._entries[job_id]
            entry.result = self._outcome(job_id, status, entry.cancelled)
            self._changed.notify_all()

    def _outcome(self, job_id: str, status: int, cancelled: bool) -> JobResult:
        file, log = self._folder / f"{job_id}.result", self._folder / f"{job_id}.log"
        (self._folder / f"{job_id}.json").unlink(missing_ok=True)
        file.with_suffix(".beside").unlink(missing_ok=True)
        if file.exists():
            outcome = msgspec.json.decode(file.read_bytes(), type=Outcome)
            file.unlink()
            if outcome.error:
                return JobResult("failed", error=outcome.error)
            return JobResult("finished", outcome.value)
        if cancelled:
            return JobResult("failed", error="cancelled")
        if status < 0:
            name = signal.Signals(-status).name
            error = f"the child was killed by signal {-status} ({name}); its output is in {log}"
            return JobResult("failed", error=error, killed=True)
        return JobResult("failed", error=f"the child ended with exit code {status} and no result; its output is in {log}")

    def _remove_old_logs(self) -> None:
        for log in sorted(self._folder.glob("*.log"))[:-LOGS_KEPT]:
            log.unlink(missing_ok=True)
