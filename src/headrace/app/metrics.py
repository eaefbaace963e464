"""GET /metrics: figures for Prometheus, read when asked. Every name starts with `headrace_`, every sample has `system`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


class _Figures(Collector):
    def __init__(self, ctx: Context, problems: Sequence[str]) -> None:
        self._ctx = ctx
        self._problems = problems

    def collect(self) -> Iterator[Metric]:
        yield from self._streams()
        yield from self._views()
        yield from self._contracts()
        yield from self._services()
        yield from self._parity()
        yield from self._rollouts()
        failing = GaugeMetricFamily(
            "headrace_worker_failing", "1 for a thread that fails and retries", labels=["system", "worker"]
        )
        for worker in self._problems:
            failing.add_metric([self._ctx.system, worker], 1)
        yield failing

    def _streams(self) -> Iterator[Metric]:
        labels = ["system", "stream"]
        position = GaugeMetricFamily("headrace_stream_position", "Next offset to apply", labels=labels)
        lag = GaugeMetricFamily("headrace_stream_lag", "Events in the log that are not applied", labels=labels)
        staleness = GaugeMetricFamily(
            "headrace_stream_staleness_seconds", "How long the oldest event not applied has waited", labels=labels
        )
        accepted = CounterMetricFamily("headrace_stream_accepted", "Events applied", labels=labels)
        redelivered = CounterMetricFamily("headrace_stream_redelivered", "Redeliveries dropped", labels=labels)
        quarantined = CounterMetricFamily("headrace_stream_quarantined", "Events refused", labels=labels)
        for s in stream_health(self._ctx):
            name = [self._ctx.system, s.stream]
            position.add_metric(name, s.position)
            lag.add_metric(name, s.lag)
            staleness.add_metric(name, s.staleness_s)
            accepted.add_metric(name, s.accepted)
            redelivered.add_metric(name, s.redelivered)
            quarantined.add_metric(name, s.quarantined)
        yield from (position, lag, staleness, accepted, redelivered, quarantined)

    def _views(self) -> Iterator[Metric]:
        labels = ["system", "view", "definition"]
        lag = GaugeMetricFamily("headrace_view_lag", "Records that its streams applied and the view has not", labels=labels)
        staleness = GaugeMetricFamily(
            "headrace_view_staleness_seconds",
            "How long the oldest record that the view has not has been in the log",
            labels=labels,
        )
        for v in view_health(self._ctx):
            name = [self._ctx.system, v.view, v.definition]
            lag.add_metric(name, v.lag)
            staleness.add_metric(name, v.staleness_s)
        yield from (lag, staleness)

    def _contracts(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "headrace_contract_failures", "Events in which a rule did not hold", labels=["system", "stream", "rule", "severity"]
        )
        good = GaugeMetricFamily(
            "headrace_stream_check_good", "1 while a rule of the stream as a whole holds", labels=["system", "stream", "rule"]
        )
        for spec in self._ctx.specs.all(StreamSpec):
            for result in rule_results(self._ctx, spec.name):
                failures.add_metric([self._ctx.system, spec.name, result.rule, result.severity], result.failed)
            for check in stream_checks(self._ctx, spec.name):
                if check.good is not None:
                    good.add_metric([self._ctx.system, spec.name, check.rule], float(check.good))
        yield from (failures, good)

    def _services(self) -> Iterator[Metric]:
        labels = ["system", "service"]
        predictions = CounterMetricFamily("headrace_predictions", "Records in the prediction log", labels=labels)
        champion = GaugeMetricFamily("headrace_champion_version", "The version that serves", labels=labels)
        weight = GaugeMetricFamily("headrace_challenger_weight", "Share of entities that the challenger answers", labels=labels)
        for s in service_health(self._ctx):
            name = [self._ctx.system, s.service]
            predictions.add_metric(name, s.predictions)
            weight.add_metric(name, s.weight)
            if s.champion is not None:
                champion.add_metric(name, s.champion)
        yield from (predictions, champion, weight)

    def _parity(self) -> Iterator[Metric]:
        labels = ["system", "service"]
        compared = GaugeMetricFamily(
            "headrace_parity_values_compared", "Values that the last parity check compared", labels=labels
        )
        different = GaugeMetricFamily(
            "headrace_parity_values_different",
            "Values of the last parity check that the event log does not give",
            labels=labels,
        )
        stale = GaugeMetricFamily(
            "headrace_parity_values_stale", "Values of the last parity check that were behind the newest events", labels=labels
        )
        staleness = GaugeMetricFamily(
            "headrace_parity_max_staleness_seconds",
            "How far values of the last parity check were behind, at most",
            labels=labels,
        )
        checked = GaugeMetricFamily(
            "headrace_parity_checked_timestamp_seconds", "When parity was last checked, Unix time", labels=labels
        )
        for found in last_results(self._ctx):
            name = [self._ctx.system, found.service]
            compared.add_metric(name, found.values_compared)
            different.add_metric(name, found.values_different)
            stale.add_metric(name, found.values_stale)
            staleness.add_metric(name, found.max_staleness_s)
            checked.add_metric(name, parse_time(found.checked_at) / SECOND)
        yield from (compared, different, stale, staleness, checked)

    def _rollouts(self) -> Iterator[Metric]:
        counts: dict[tuple[str, str], int] = {}
        evidence = GaugeMetricFamily(
            "headrace_rollout_guard_e", "Evidence of a guard of the rollout in progress", labels=["system", "service", "guard"]
        )
        for rollout in all_rollouts(self._ctx):
            counts[rollout.service, rollout.state] = counts.get((rollout.service, rollout.state), 0) + 1
            if rollout.state in ACTIVE:
                for guard in rollout.guards:
                    evidence.add_metric([self._ctx.system, rollout.service, guard.name], guard.e)
        rollouts = GaugeMetricFamily("headrace_rollouts", "Rollouts by state", labels=["system", "service", "state"])
        for (service, state), count in counts.items():
            rollouts.add_metric([self._ctx.system, service, state], count)
        yield from (rollouts, evidence)


def render_metrics(ctx: Context, failing: Sequence[str]) -> tuple[bytes, str]:
    """The exposition and its media type. `failing` are the threads of this process that fail."""
    registry = CollectorRegistry()
    registry.register(_Figures(ctx, failing))
    return generate_latest(registry), CONTENT_TYPE_LATEST
