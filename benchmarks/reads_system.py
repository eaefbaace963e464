"""The system of `benchmarks/reads.py`: ten numbers of each user, of which the newest are read."""

from __future__ import annotations

from datetime import datetime

import headrace as hr

system = hr.System("reads")


@system.stream(id="id", key="user_id", time="at")
class Profile:
    id: int
    at: datetime
    user_id: int
    f0: float
    f1: float
    f2: float
    f3: float
    f4: float
    f5: float
    f6: float
    f7: float
    f8: float
    f9: float


user = system.attributes(Profile, by="user_id", columns=[f"f{number}" for number in range(10)], name="user")
