"""Features of all payments together, which no key parts: what `large.py --keyless` computes."""

from datetime import datetime

import headrace as hr

system = hr.System("payments")


@system.stream(id="tx_id", key="customer_id", time="at")
class Transaction:
    tx_id: int
    at: datetime
    customer_id: int
    terminal_id: int
    amount: float


every = system.windows(
    Transaction, by=(), over=["1h"], name="every", own_event=True, resolution="1m",
    n=hr.count(), total=hr.sum("amount"), largest=hr.max("amount"), spread=hr.std("amount"),
)  # fmt: skip
counted = system.windows(Transaction, by=(), over=["1d", "30d"], name="counted", n=hr.count())
newest = system.attributes(Transaction, by=(), columns=["amount", "terminal_id"], name="newest")
