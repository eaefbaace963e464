"""GET /metrics: figures for Prometheus, read when asked. Every name starts with `headrace_`, every sample has `system`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.app.status import all_rollouts, service_health, stream_health, view_health
from headrace.data.contract_results import rule_results, stream_checks
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.times import SECOND, parse_time
from headrace.release.store import ACTIVE
from headrace.serving.parity_results import last_results

Sample = tuple[Sequence[str], float | None]
"""The values of the labels after `system`, and the figure; None is not shown."""


class _Figures(Collector):
    def __init__(self, ctx: Context, failing: Sequence[str]) -> None:
        self._ctx = ctx
        self._failing = failing

    def collect(self) -> Iterator[Metric]:
        yield from self._streams()
        yield from self._views()
        yield from self._contracts()
        yield from self._services()
        yield from self._parity()
        yield from self._rollouts()
        failing = [((worker,), 1) for worker in self._failing]
        yield self._gauge("headrace_worker_failing", "1 for a thread that fails and retries", ["worker"], failing)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
        return self._filled(GaugeMetricFamily(name, meaning, labels=["system", *labels]), samples)

    def _counter(self, name: str, meaning: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
        return self._filled(CounterMetricFamily(name, meaning, labels=["system", *labels]), samples)

    def _filled(self, family: GaugeMetricFamily | CounterMetricFamily, samples: Iterable[Sample]) -> Metric:
        for values, figure in samples:
            if figure is not None:
                family.add_metric([self._ctx.system, *values], figure)
        return family

    def _streams(self) -> Iterator[Metric]:
        by = ["stream"]
        found = [((s.stream,), s) for s in stream_health(self._ctx)]
        waited = "How long the oldest event not applied has waited"
        yield self._gauge("headrace_stream_position", "Next offset to apply", by, ((n, s.position) for n, s in found))
        yield self._gauge("headrace_stream_lag", "Events in the log that are not applied", by, ((n, s.lag) for n, s in found))
        yield self._gauge("headrace_stream_staleness_seconds", waited, by, ((n, s.staleness_s) for n, s in found))
        yield self._counter("headrace_stream_accepted", "Events applied", by, ((n, s.accepted) for n, s in found))
        yield self._counter("headrace_stream_redelivered", "Redeliveries dropped", by, ((n, s.redelivered) for n, s in found))
        yield self._counter("headrace_stream_quarantined", "Events refused", by, ((n, s.quarantined) for n, s in found))

    def _views(self) -> Iterator[Metric]:
        by = ["view", "definition"]
        found = [((v.view, v.definition), v) for v in view_health(self._ctx)]
        behind = "Records that its streams applied and the view has not"
        waited = "How long the oldest record that the view has not has been in the log"
        yield self._gauge("headrace_view_lag", behind, by, ((n, v.lag) for n, v in found))
        yield self._gauge("headrace_view_staleness_seconds", waited, by, ((n, v.staleness_s) for n, v in found))

    def _contracts(self) -> Iterator[Metric]:
        names = [spec.name for spec in self._ctx.specs.all(StreamSpec)]
        failed = [((name, r.rule, r.severity), r.failed) for name in names for r in rule_results(self._ctx, name)]
        good = [((name, check.rule), check.good) for name in names for check in stream_checks(self._ctx, name)]
        broken = "Events in which a rule did not hold"
        holds = "1 while a rule of the stream as a whole holds"
        yield self._counter("headrace_contract_failures", broken, ["stream", "rule", "severity"], failed)
        yield self._gauge("headrace_stream_check_good", holds, ["stream", "rule"], good)

    def _services(self) -> Iterator[Metric]:
        by = ["service"]
        found = [((s.service,), s) for s in service_health(self._ctx)]
        share = "Share of entities that the challenger answers"
        yield self._counter("headrace_predictions", "Records in the prediction log", by, ((n, s.predictions) for n, s in found))
        yield self._gauge("headrace_champion_version", "The version that serves", by, ((n, s.champion) for n, s in found))
        yield self._gauge("headrace_challenger_weight", share, by, ((n, s.weight) for n, s in found))

    def _parity(self) -> Iterator[Metric]:
        by = ["service"]
        found = [((r.service,), r) for r in last_results(self._ctx)]
        compared = "Values that the last parity check compared"
        different = "Values of the last parity check that the event log does not give"
        stale = "Values of the last parity check that were behind the newest events"
        behind = "How far values of the last parity check were behind, at most"
        checked = "When parity was last checked, Unix time"
        times = [(name, parse_time(result.checked_at) / SECOND) for name, result in found]
        yield self._gauge("headrace_parity_values_compared", compared, by, ((n, r.values_compared) for n, r in found))
        yield self._gauge("headrace_parity_values_different", different, by, ((n, r.values_different) for n, r in found))
        yield self._gauge("headrace_parity_values_stale", stale, by, ((n, r.values_stale) for n, r in found))
        yield self._gauge("headrace_parity_max_staleness_seconds", behind, by, ((n, r.max_staleness_s) for n, r in found))
        yield self._gauge("headrace_parity_checked_timestamp_seconds", checked, by, times)

    def _rollouts(self) -> Iterator[Metric]:
        rollouts = all_rollouts(self._ctx)
        counts = Counter((rollout.service, rollout.state) for rollout in rollouts)
        guards = [((r.service, guard.name), guard.e) for r in rollouts if r.state in ACTIVE for guard in r.guards]
        evidence = "Evidence of a guard of the rollout in progress"
        yield self._gauge("headrace_rollouts", "Rollouts by state", ["service", "state"], counts.items())
        yield self._gauge("headrace_rollout_guard_e", evidence, ["service", "guard"], guards)


def render_metrics(ctx: Context, failing: Sequence[str]) -> tuple[bytes, str]:
    """The exposition and its media type. `failing` are the threads of this process that fail."""
    registry = CollectorRegistry()
    registry.register(_Figures(ctx, failing))
    return generate_latest(registry), CONTENT_TYPE_LATEST
