"""SIGKILL at any moment of ingestion, backfill, training, serving and promotion: nothing acknowledged is lost or doubled.

One story on one data folder, phase after phase; each phase starts from what the kills of the earlier ones left.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import deliveries
import predictions
import pytest
import releases
import trainings
from deliveries import Delivered
from killing import KILLS, Line
from orders_system import day, write_system

SEED = 20260101


class Story:
    """The line, and what the phases so far have left for the later ones."""

    def __init__(self, folder: Path, kills: int) -> None:
        self.folder = folder
        self.kills = kills
        self.line = Line(folder, write_system(folder), SEED + kills)
        self.line.start()
        self.delivered = Delivered()
        self.done: set[str] = set()
        self._before = KILLS.copy()

    def needs(self, phase: str) -> None:
        assert phase in self.done, f"the phase `{phase}` failed"

    def ended(self, phase: str) -> None:
        self.done.add(phase)
        assert KILLS[phase] - self._before[phase] >= self.kills


@pytest.fixture(scope="module", params=[2, pytest.param(10, marks=pytest.mark.slow)])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    told = Story(tmp_path_factory.mktemp("faults"), request.param)
    yield told
    told.line.stop()


def test_killed_while_events_enter(story: Story) -> None:
    story.delivered = deliveries.run(story.line, SEED, story.kills, story.folder)
    assert story.delivered.unanswered, "the kills met requests in flight"
    deliveries.check(story.line, story.delivered)
    story.ended("ingestion")


def test_killed_while_a_dataset_is_built_and_trained_on(story: Story) -> None:
    story.needs("ingestion")
    run = trainings.build_and_train(story.line, story.kills, story.folder)
    trainings.check_training(story.line, run)
    trainings.register_and_release(story.line, run)
    story.ended("backfill")


def test_killed_while_it_answers(story: Story) -> None:
    story.needs("backfill")
    story.line.post("/clock", {"now": (day(26) - timedelta(minutes=1)).isoformat()})
    asked = trainings.shifted_orders(SEED, 10_000, 200 * story.kills)
    answered = predictions.run(story.line, SEED, story.kills, asked)
    assert answered.unanswered, "the kills met requests in flight"
    predictions.check(story.line, answered, story.folder)
    story.ended("serving")


def test_killed_while_it_retrains(story: Story) -> None:
    story.needs("serving")
    trainings.retrain(story.line, story.kills)
    trainings.check_retraining(story.line)
    story.ended("training")


def test_killed_while_a_version_is_released(story: Story) -> None:
    story.needs("training")
    saved = story.line.get("/audit/checkpoint")
    rollout, kills = releases.by_policy(story.line, (story.kills + 1) // 2, SEED)
    assert (rollout["challenger"], rollout["state"]) == (2, "promoted"), rollout
    acts = releases.by_hand(story.line, story.kills - kills)
    releases.check_releases(story.line, acts)
    releases.check_ledger(story.line, story.folder, saved)
    predictions.check_parity(story.line)
    story.ended("promotion")
