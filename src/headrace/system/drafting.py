"""Writing a typed system file from what was inferred (`headrace init`)."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.kernel.ids import snake_case
from headrace.system.inferring import Column, Inferred

SILENCE = "silence"
"""The model of files without an outcome: which keys will fall silent."""


def camel_case(text: str) -> str:
    """`card payments` -> `CardPayments`; a digit in front gets an `Event`."""
    words = "".join(part[:1].upper() + part[1:] for part in snake_case(text).replace("-", "_").replace(" ", "_").split("_"))
    name = "".join(character for character in words if character.isalnum())
    return name if name[:1].isalpha() else f"Event{name}"


def singular(word: str) -> str:
    """`Payments` -> `Payment`; `Glass` stays."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def report_class(inferred: Inferred) -> str:
    """The class of the events that say the label came true: `is_fraud` -> `FraudReport`."""
    return camel_case((inferred.label or "").removeprefix("is_")) + "Report"


def model_name(inferred: Inferred) -> str | None:
    """The model that the file declares: of the label, else of silence, else none."""
    if inferred.label is not None:
        return snake_case(report_class(inferred).removesuffix("Report"))
    return SILENCE if _can_fall_silent(inferred) else None


def draft(name: str, inferred: Inferred, *, stream: str, source: str) -> str:
    """The text of the system file. `stream` is the class name of the events, `source` the file they were read from."""
    return "\n".join(_lines(name, inferred, stream, source)) + "\n"


def _lines(name: str, inferred: Inferred, stream: str, source: str) -> Iterator[str]:
    yield f'"""{name}: drafted by `headrace init` from {source} ({inferred.rows:,} rows). Read it, mend it, run it."""'
    yield ""
    yield "from datetime import datetime"
    yield ""
    yield "import headrace as hr"
    yield ""
    yield f'system = hr.System("{name}")'
    yield from _stream(inferred, stream, source)
    report = report_class(inferred)
    if inferred.label is not None:
        yield from _report(inferred, stream, report)
    yield ""
    yield ""
    yield from _windows(inferred, stream)
    if inferred.label is not None:
        yield from _model(inferred, stream, report)
    elif _can_fall_silent(inferred):
        yield from _silence(inferred, stream)


def _annotation(column: Column) -> str:
    return f"{column.type} | None" if column.nullable else column.type


def _stream(inferred: Inferred, stream: str, source: str) -> Iterator[str]:
    yield ""
    yield ""
    yield f'@system.stream(id="{inferred.id}", key="{inferred.key}", time="{inferred.time}")'
    yield f"class {stream}:"
    yield f'    """One row of {source}."""'
    yield ""
    for column in inferred.columns:
        if column.name != inferred.label:
            yield f"    {column.name}: {_annotation(column)}"
    for column_name, reason in inferred.left_out.items():
        yield f"    # not declared: {column_name!r}, {reason}"


def _report(inferred: Inferred, stream: str, report: str) -> Iterator[str]:
    yield ""
    yield ""
    yield f'@system.stream(id="{inferred.id}", key="{inferred.id}", time="{inferred.time}")'
    yield f"class {report}:"
    yield f'    """Says of a {stream} that `{inferred.label}` came true; it arrives later, or never."""'
    yield ""
    yield f"    {inferred.id}: {inferred.column(inferred.id).type}"
    yield f"    {inferred.time}: datetime"


def _windows(inferred: Inferred, stream: str) -> Iterator[str]:
    over = ", ".join(f'"{window}"' for window in inferred.windows)
    means = "".join(f', mean_{column}=hr.mean("{column}")' for column in inferred.numbers[:3])
    yield "recent = system.windows("
    yield f'    {stream}, by="{inferred.key}", over=[{over}], name="recent",'
    yield f"    own_event={not _can_fall_silent(inferred) or inferred.label is not None}, count=hr.count(){means},"
    yield ")  # fmt: skip"


def _features(inferred: Inferred) -> str:
    plain = [c.name for c in inferred.columns if c.name in inferred.numbers and not c.nullable]
    return ", ".join([*(f'"{name}"' for name in plain), "recent"])


def _trainer(model: str) -> Iterator[str]:
    yield f"def {model}(rows, labels, *, num_leaves=31):"
    yield "    from lightgbm import LGBMClassifier"
    yield ""
    yield "    return LGBMClassifier(num_leaves=num_leaves, random_state=0, n_jobs=1, verbose=-1).fit(rows, labels)"
    yield ""
    yield ""


def _model(inferred: Inferred, stream: str, report: str) -> Iterator[str]:
    model = model_name(inferred)
    assert model is not None
    yield ""
    yield ""
    yield "@system.model("
    yield f"    features=[{_features(inferred)}],"
    yield f'    label=hr.label({report}, on="{inferred.id}", within="{inferred.horizon}"), spine={stream},'
    yield '    search={"num_leaves": (7, 63)},'
    yield ")  # fmt: skip"
    yield from _trainer(model)
    yield from _service(f'{model}, request={stream}, name="{model}_score"')


def _can_fall_silent(inferred: Inferred) -> bool:
    """Whether keys come back, so that "will it fall silent?" can be asked without any label."""
    return inferred.key != inferred.id and inferred.column(inferred.key).distinct * 3 <= inferred.rows


def _silence(inferred: Inferred, stream: str) -> Iterator[str]:
    key = inferred.key
    yield ""
    yield ""
    yield "class Question:"
    yield f'    """The file has no outcome column, so the first model asks: will this {key} fall silent?"""'
    yield ""
    yield f"    {key}: {inferred.column(key).type}"
    yield ""
    yield ""
    yield "@system.model("
    yield "    features=[recent],"
    yield f'    label=hr.no_event({stream}, by="{key}", within="{inferred.horizon}"),'
    yield f'    spine=hr.every("{_pace(inferred)}", key="{key}"),'
    yield '    search={"num_leaves": (7, 63)},'
    yield ")  # fmt: skip"
    yield from _trainer(SILENCE)
    yield from _service(f'{SILENCE}, request=Question, key="{key}", name="{SILENCE}_score"')


def _pace(inferred: Inferred) -> str:
    return {"1h": "1h", "1d": "1d"}.get(inferred.horizon, "1w")


def _service(arguments: str) -> Iterator[str]:
    yield "service = system.service("
    yield f"    {arguments},"
    yield '    release=hr.shadow("1h") >> hr.canary(10, 100, each="1h") >> hr.probation("1d"),'
    yield ")  # fmt: skip"
    yield 'system.watch(service, retrain_when=hr.psi > 0.2, at_most="1/week", approve="person")'
