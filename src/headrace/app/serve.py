"""The serve process: `python -m headrace.app.serve`. Started first of all: it imports while its parent reads the system file,
then takes its ServeArguments as one line of standard input."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the process; without a line, the parent found something wrong or is gone."""
    gc.disable()  # nothing that importing makes is garbage; `AnnouncedApp.start` ends it
    from headrace.app import serving_process

    line = sys.stdin.buffer.readline()
    if line:
        serving_process.run(line)


if __name__ == "__main__":
    main()
