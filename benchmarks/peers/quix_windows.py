"""A peer of `benchmarks/streaming.py`: sliding windows of 1 h and 24 h in Quix Streams. Arguments:
EVENTS.ndjson OUT.json KEY LATE_SECONDS.

The broker is librdkafka's own, in this process; the changelog is off. It prints JSON: seconds and CPU seconds of the thread
that applies (broker and client have threads of their own) from the first event to the last.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Mean, Sum
from quixstreams.models.topics import TopicAdmin, TopicConfig, TopicManager

WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24)}
QUIET_SECONDS = 5.0
"""Without a message for so long, all are applied."""


class MockAdmin(TopicAdmin):
    """Without the settings of a topic, which librdkafka's broker cannot be asked for."""

    def inspect_topics(self, topic_names: list[str], timeout: float = 30) -> dict[str, TopicConfig | None]:
        return {
            name: TopicConfig(num_partitions=1, replication_factor=1, extra_config={"retention.ms": "-1"})
            for name in topic_names
        }


def main(events: Path, out: Path, key: str, late: timedelta) -> None:
    lines = events.read_bytes().split(b"\n")
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "queue.buffering.max.messages": 10_000_000})
    broker = producer.list_topics("payments", timeout=30).brokers
    address = ",".join(f"{member.host}:{member.port}" for member in broker.values())
    for line in lines:
        producer.produce("payments", line, key=str(json.loads(line)[key]), partition=0)
        producer.poll(0)
    producer.flush()
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in WINDOWS}
    first: tuple[float, float] | None = None
    last = (0.0, 0.0)
    applied = 0

    def watch(topic: str, partition: int, offset: int) -> None:
        nonlocal first, last, applied
        last = time.perf_counter(), time.thread_time()
        first = first or last
        applied += 1

    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=address, consumer_group="benchmark", auto_offset_reset="earliest", state_dir=state,
            on_message_processed=watch, use_changelog_topics=False, loglevel="ERROR",
            topic_manager=TopicManager(MockAdmin(address), "benchmark", auto_create_topics=False),
        )  # fmt: skip
        topic = app.topic(
            "payments", key_deserializer="str", timestamp_extractor=lambda value, headers, at, kind: value["at"]
        )  # fmt: skip
        frame = app.dataframe(topic)
        for name, span in WINDOWS.items():
            window = frame.sliding_window(span, grace_ms=late, name=name).agg(
                count=Count(), sum=Sum("amount"), mean=Mean("amount")
            )
            kept = found[name]
            window.current().update(
                lambda value, key, at, headers, kept=kept: kept.__setitem__(
                    key, [value["end"], value["count"], value["sum"], value["mean"]]
                ),
                metadata=True,
            )
        app.run(timeout=QUIET_SECONDS)
    out.write_text(json.dumps(found))
    assert first is not None
    print(json.dumps({"events": applied, "seconds": last[0] - first[0], "cpu_seconds": last[1] - first[1]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], timedelta(seconds=int(sys.argv[4])))
