"""A hundred model swaps under load: no failed request, and every answer is that of the version it names."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from serving_world import SPECS, Client, constant_model, order, release, service, serving, taken_over

from headrace.serving.reading import prediction_records, read_cells

SCORES = {1: 0.25, 2: 0.5, 3: 0.75}


async def ask(client: Client, numbers: range, stop: threading.Event, seen: list[dict[str, Any]], failures: list[str]) -> None:
    """One keep-alive connection that sends requests until it is told to stop; it never retries."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    for number in numbers:
        if stop.is_set():
            break
        body = json.dumps(order(number, customer=f"c{number}")).encode()
        head = f"POST /services/{service.name}/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        try:
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1.0)
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            content = await reader.readexactly(length)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            failures.append(repr(error))
            break
        if answer.startswith(b"HTTP/1.1 200"):
            seen.append(json.loads(content))
        else:
            failures.append(content.decode())
    writer.close()


def swap_under_load(ctx: Any, swaps: int, connections: int) -> tuple[list[dict[str, Any]], list[str]]:
    seen: list[dict[str, Any]] = []
    failures: list[str] = []
    stop = threading.Event()
    release(ctx, 1)
    with serving(ctx, {number: constant_model(score) for number, score in SCORES.items()}) as client:

        async def load() -> None:
            await asyncio.gather(
                *(ask(client, range(i * 10**6, (i + 1) * 10**6), stop, seen, failures) for i in range(connections))
            )

        clients = threading.Thread(target=lambda: asyncio.run(load()))
        clients.start()
        for swap in range(swaps):
            champion, challenger = 1 + swap % 3, 1 + (swap + 1) % 3
            table = release(ctx, champion, challenger=challenger, weight=0.25, salt=str(swap))
            taken_over(ctx, table)
        stop.set()
        clients.join()
    return seen, failures


def check(ctx: Any, seen: list[dict[str, Any]], failures: list[str]) -> None:
    assert failures == []
    assert len(seen) > 100
    assert {answer["version"] for answer in seen} == set(SCORES)
    assert all(answer["score"] == SCORES[answer["version"]] for answer in seen)
    records = [record for _, record in prediction_records(ctx, service.name)]
    assert {record.id for record in records} == {answer["prediction_id"] for answer in seen}
    assert len(records) == len(seen)
    cells, _ = read_cells(ctx, service.name, 0, 10**6)
    assert sum(cell.count for cell in cells.values()) == len(seen)


def test_swaps_fail_no_request(make_context: Any) -> None:
    ctx = make_context(SPECS)
    check(ctx, *swap_under_load(ctx, swaps=8, connections=4))


@pytest.mark.slow
def test_a_hundred_swaps_fail_no_request(make_context: Any) -> None:
    ctx = make_context(SPECS)
    check(ctx, *swap_under_load(ctx, swaps=100, connections=32))
