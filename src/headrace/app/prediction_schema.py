"""The routes of the serve process in the API document: it has no framework to ask."""

from __future__ import annotations

from typing import Any

from headrace.data.types import Field, OneOf, Pattern, Range
from headrace.kernel.identity import Permission
from headrace.kernel.specs import Specs
from headrace.serving.types import ServiceSpec
from headrace.system.feature_catalogue import all_readable

_TYPES: dict[str, dict[str, str]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
}
_ANSWER = {
    "type": "object",
    "properties": {
        "score": {"type": "number"},
        "prediction_id": {"type": "string"},
        "service": {"type": "string"},
        "version": {"type": "integer"},
        "sticky": {"type": "boolean"},
    },
}
_ROW = {"type": "array", "items": {"type": ["number", "null"]}}
_INPUT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["input"],
    "properties": {"input": {"anyOf": [_ROW, {"type": "array", "items": _ROW}]}},
}
_RESULT = {"type": "object", "properties": {"result": {"type": "array", "items": {"type": ["number", "null"]}}}}


_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_QUESTIONS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["requests"],
    "properties": {
        "requests": {"type": "array", "items": {"type": "object", "additionalProperties": _SCALAR}},
        "at": {"type": "string", "format": "date-time"},
    },
}
_VALUES = {
    "type": "object",
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "columns": {"type": "array", "items": {"type": "string"}},
        "values": {"type": "array", "items": _ROW},
        "age_s": {"type": "object", "additionalProperties": _ROW},
    },
}


def served_paths(specs: Specs) -> dict[str, Any]:
    """OpenAPI paths of every declared service, of the first one under its short name, and of features."""
    paths: dict[str, Any] = {}
    for spec in specs.all(ServiceSpec):
        row = request_schema(spec.request)
        one, many = f"/services/{spec.name}/predict", f"/services/{spec.name}/predict/batch"
        rows = {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": row}}}
        answers = {"type": "object", "properties": {"predictions": {"type": "array", "items": _ANSWER}}}
        paths[one] = _path(f"Ask `{spec.name}` for one prediction.", row, _ANSWER)
        paths[many] = _path(f"Ask `{spec.name}` for several predictions.", rows, answers)
        paths.setdefault("/predict", _path(f"Ask `{spec.name}` with rows of features in model order.", _INPUT, _RESULT))
    for name in all_readable(specs):
        paths[f"/features/{name}/read"] = _path(f"Read `{name}` for some requests.", _QUESTIONS, _VALUES)
    return paths


def permission_of(path: str) -> Permission | None:
    """What a route of the serve process asks for."""
    if path.startswith("/features/"):
        return Permission.READ
    return Permission.PREDICT if path == "/predict" or path.startswith("/services/") else None


def request_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    """JSON Schema of the request's fields."""
    required = [field.name for field in fields if field.required]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": {field.name: _field_schema(field) for field in fields},
    }


def _field_schema(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = dict(_TYPES[field.type])
    for rule in (rule for rule in field.rules if rule.severity == "quarantine"):
        if isinstance(rule, Range):
            schema |= {name: value for name, value in (("minimum", rule.min), ("maximum", rule.max)) if value is not None}
        elif isinstance(rule, OneOf):
            schema["enum"] = list(rule.values)
        elif isinstance(rule, Pattern):
            schema["pattern"] = rule.regex
    return {"anyOf": [schema, {"type": "null"}]} if field.nullable else schema


def _path(summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "tags": ["predictions"],
            "parameters": [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
            "responses": {"200": {"description": "Answered", "content": {"application/json": {"schema": answer}}}},
        }
    }
