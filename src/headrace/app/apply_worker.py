"""A process that applies streams beside the work process: `python -m headrace.app.apply_worker ARGUMENTS`."""

from __future__ import annotations

import os
import signal
import sys
import threading

import msgspec

from headrace.app.applying import RENEW_SECONDS, Applying
from headrace.app.following import FOLLOW_SECONDS, Following
from headrace.app.logs import set_up_log
from headrace.app.work import IDLE_SECONDS, STOP_SECONDS
from headrace.app.workers import Worker
from headrace.app.world import context
from headrace.kernel.identity import SYSTEM
from headrace.kernel.log import LOG


class ApplyArguments(msgspec.Struct, frozen=True):
    """`world` opens the Context (`Context.child_arguments`); `member` names the process among those that apply."""

    world: dict[str, str | None]
    member: str
    log_format: str
    log_level: str


def main(text: str) -> None:
    """Apply until SIGTERM, or until the parent is gone (standard input ends)."""
    arguments = msgspec.json.decode(text, type=ApplyArguments)
    set_up_log(arguments.log_format, arguments.log_level)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    ctx = context(arguments.world)
    applying = Applying(ctx.acting(SYSTEM), arguments.member)
    workers = [
        Worker("applier", applying.step, idle=IDLE_SECONDS),
        Worker("lease", applying.renew, idle=RENEW_SECONDS),
        Worker("declarations", Following(ctx).step, idle=FOLLOW_SECONDS),
    ]
    for worker in workers:
        worker.start()
    stop.wait()
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.join(STOP_SECONDS)
    applying.leave()
    ctx.close()
    LOG.info("stopped", member=arguments.member)


def _stop_with_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()


if __name__ == "__main__":
    main(sys.argv[1])
