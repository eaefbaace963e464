"""Steps 5 to 7 of the story: the following days, hour by hour, on the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from client import Answer, Clients
from payments import EVENT, lines
from sabotage import sabotaged_model
from stage import Bar, Stage

REQUESTS_A_DAY = 750
FEWEST_REQUESTS = 20_000
WITHOUT_SHADOW = {"steps": [{"canary": [5, 25, 100], "each": "1d"}]}
"""The sabotaged challenger goes to clients at once: in shadow it would be found before any saw it."""
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
MANY = 100_000
ENDED = ("promoted", "rolled_back")


@dataclass
class Replay:
    """`asked` are (tx_id, answer) of every request, in order."""

    stage: Stage
    clients: Clients
    asked: list[tuple[int, Answer]]
    retrained: dict[str, Any] | None = None
    sabotaged: int | None = None
    told: bool = False
    """Whether every rollout came to its end before the payments did."""

    def run(self) -> None:
        """Replay until the sabotaged challenger is rolled back, or the data end."""
        days = self.stage.plan.days
        with self.stage.step("replay: requests, events, reports", total=days) as bar:
            for day in range(days):
                self._day(day)
                bar.advance(self._state(day))
                if not self._goes_on(bar):
                    self.told = True
                    break
        self._figures()

    def _day(self, day: int) -> None:
        """One day. A request is sent before its payment arrives in even hours, and after it in odd ones; in both, after
        everything of earlier hours has been applied and decided. Nothing of a day comes after its midnight: all of it counts
        in what is decided then."""
        stage = self.stage
        start = stage.plan.start + timedelta(days=day)
        events = stage.payments_between(start, start + timedelta(days=1))
        random = np.random.default_rng([stage.seed, 2, day])
        size = min(REQUESTS_A_DAY, len(events))
        events = events.with_columns(asks=pl.Series(np.isin(np.arange(len(events)), random.choice(len(events), size, False))))
        for hour in range(24):
            begin, end = start + hour * HOUR, start + (hour + 1) * HOUR
            now = events.filter((pl.col("at") >= begin) & (pl.col("at") < end))
            stage.clock(end - SECOND)
            stage.settle()
            if hour % 2 == 0:
                self._ask(now)
            stage.door.send("transaction", lines(now.select(EVENT)))
            stage.door.send("fraud_report", lines(stage.reports_between(begin, end)))
            stage.wait_until_applied()
            if hour % 2 == 1:
                self._ask(now)
        stage.clock(start + timedelta(days=1))
        stage.settle()

    def _ask(self, events: pl.DataFrame) -> None:
        requests = events.filter("asks").select(EVENT)
        answers = self.clients.ask(lines(requests))
        self.asked += zip(requests["tx_id"].to_list(), answers, strict=True)

    def _goes_on(self, bar: Bar) -> bool:
        """Release the sabotaged challenger when the retrained one is promoted; False when the story is told."""
        door = self.stage.door
        rollouts = {r["challenger"]: r for r in door.get("/rollouts")}
        if self.sabotaged is not None:
            return rollouts[self.sabotaged]["state"] not in ENDED or len(self.asked) < FEWEST_REQUESTS
        released = [r for r in door.get("/retrainings") if r["version"] in rollouts]
        if released and rollouts[released[0]["version"]]["state"] in ENDED:
            bar.say("a sabotaged challenger is released")
            path = self.stage.scratch / "sabotaged.onnx"
            path.write_bytes(sabotaged_model(len(door.get("/registry/boosting/versions")[0]["features"])))
            self.sabotaged = door.command("registry", "register", "boosting", "--artifact", path)["version"]
            door.post(f"/registry/boosting/versions/{self.sabotaged}/approve", {"reason": "to see the guard at work"})
            why = {"reason": "to see the guard at work", "policy": WITHOUT_SHADOW}
            door.post("/rollouts", {"service": "scoring", "version": self.sabotaged, **why})
            self.stage.settle()
        return True

    def _state(self, day: int) -> str:
        rollouts = self.stage.door.get("/rollouts")
        alarms = self.stage.door.get("/alarms", limit=MANY)
        newest = max(rollouts, key=lambda r: r["challenger"])
        state = f"version {newest['challenger']} {newest['state']} {newest['weight']:.0%}"
        return f"day {day + 1}, {len(self.asked):,} requests, {len(alarms)} alarms, {state}"

    def _figures(self) -> None:
        figures, door, plan = self.stage.figures, self.stage.door, self.stage.plan
        alarms = sorted(alarm["at"] for alarm in door.get("/alarms", limit=MANY))
        shift = plan.shift.isoformat().replace("+00:00", "Z")
        later = [at for at in alarms if at >= shift]
        figures["drift"] = {
            "shift_started_at": shift,
            "first_alarm_at": later[0] if later else None,
            "alarms_before_shift": len(alarms) - len(later),
        }
        retrainings = [r for r in door.get("/retrainings") if r["version"] is not None]
        figures["retrained"] = None
        if retrainings:
            first = retrainings[-1]
            figures["retrained"] = {"dataset_version": first["dataset"], "version": first["version"]}
        rollouts = sorted(door.get("/rollouts"), key=lambda r: r["challenger"])
        figures["rollouts"] = [
            {
                "version": rollout["challenger"],
                "outcome": rollout["state"],
                "canary_entities": None,
                "spoilt_requests": rollout["requests"]["spoilt"],
            }
            for rollout in rollouts
            if rollout["champion"] is not None
        ]
