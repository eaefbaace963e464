"""From records to HTML: the template environment and its filters."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

import headrace
from headrace.release.types import Rollout

TONES = {
    "good": ("ok", "promoted", "finished", "serving", "approved"),
    "warn": ("hold", "held", "running", "warming", "shadow", "canary", "probation"),
    "bad": ("roll_back", "rolled_back", "failed"),
}
ORDER = ("warming", "shadow", "canary", "probation", "promoted")
HEADLINES = ("test.average_precision", "holdout.average_precision", "trial.average_precision", "cross_fitted.average_precision")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def tone(word: str) -> str:
    """The colour of a state."""
    return next((kind for kind, words in TONES.items() if word in words), "")


def steps_of(rollout: Rollout) -> list[dict[str, str]]:
    """The states of a rollout in order, each past, now or to come; a rollout that left the path ends where it did."""
    last = rollout.events[-1] if rollout.events else None
    if rollout.state in ORDER:
        place = ORDER.index(rollout.state)
        return [{"name": name, "place": "past" if i < place else "now" if i == place else ""} for i, name in enumerate(ORDER)]
    reached = last.from_ if last is not None and last.from_ in ORDER else ORDER[0]
    past = [{"name": name, "place": "past"} for name in ORDER[: ORDER.index(reached) + 1]]
    return [*past, {"name": rollout.state, "place": "now"}]


def moment(text: str | None) -> str:
    """An RFC 3339 time as people read it: `2018-08-01 12:00:00`."""
    return "-" if not text else text.replace("T", " ").removesuffix("Z").partition(".")[0]


def whole(number: float) -> str:
    """`1754155` -> `1,754,155`."""
    return f"{number:,}"


def figure(value: Any) -> str:
    """A value in a table: floats with four significant digits."""
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(figure(item) for item in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure(item)}" for name, item in value.items()) or "-"
    return str(value)


def breakable(name: str) -> Markup:
    """A long name that may break after an underscore only."""
    return Markup("_<wbr>").join(name.split("_"))


def prose(text: str) -> Markup:
    """A sentence whose words between backticks are code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def headline(metrics: dict[str, float]) -> str:
    """The metric that is shown where there is room for one."""
    found = next((name for name in HEADLINES if name in metrics), None)
    return "-" if found is None else f"{metrics[found]:.4f} {found.replace('_', ' ').replace('.', ' ')}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("headrace.app.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(moment=moment, whole=whole, figure=figure, breakable=breakable, prose=prose)
    environment.globals.update(tone=tone, steps_of=steps_of, headline=headline, version=headrace.__version__)
    return environment


_ENVIRONMENT = _environment()


def page(template: str, *, system: str, **values: Any) -> Response:
    """The page; nothing in it may load anything from elsewhere."""
    text = _ENVIRONMENT.get_template(template).render(system=system, **values)
    headers = {"content-security-policy": POLICY, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(text, headers=headers, media_type="text/html")
