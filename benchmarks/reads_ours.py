"""Our side of `benchmarks/reads.py`: python reads_ours.py DATA QUESTIONS.json answers each question once.

As `peers/feast_reads.py`, it prints JSON: the microseconds of each read, and the answers of the first ones.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from headrace.app.world import installed
from headrace.features.online import FeatureReader
from headrace.features.types import Ask
from headrace.kernel.settings import Settings
from headrace.system.feature_catalogue import feature_set

COMPARED = 20


def main(data: Path, questions: Path) -> None:
    ctx = installed(Settings(data=data), None)
    reader = FeatureReader(ctx.online, ctx.namespace, feature_set(ctx.specs, "user"), ctx.specs)
    now = ctx.clock.now()
    asked = json.loads(questions.read_text())
    taken, answers = [], []
    reader.read_many([Ask({"user_id": user}, now, None) for user in asked[-1]])
    gc.freeze()
    for users in asked:
        began = time.perf_counter()
        found = reader.read_many([Ask({"user_id": user}, now, None) for user in users])
        taken.append((time.perf_counter() - began) * 1e6)
        if len(answers) < COMPARED:
            answers.append([row.values.tolist() for row in found])
    print(json.dumps({"taken": taken, "answers": answers}))
    ctx.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
