"""Settings: flag > environment > `headrace.toml` > default. The only module that reads the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from headrace.kernel.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. A URL left empty means the embedded engine inside `data`."""

    data: Path = Path(".headrace")
    events: str = ""
    online: str = ""
    lake: str = ""
    blobs: str = ""
    catalog: str = ""
    compute: str = ""
    url: str = ""
    api_key: str = ""
    signing_key: str = ""
    log_format: str = "text"
    log_level: str = "info"


def load_settings(
    flags: Mapping[str, object | None] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path = Path("headrace.toml"),
) -> Settings:
    """Settings from all four places. InvalidInput names an unknown key of the file."""
    names = {f.name for f in fields(Settings)}
    values: dict[str, object] = {}
    if file.is_file():
        try:
            loaded = tomllib.loads(file.read_text())
        except ValueError as error:  # (TOMLDecodeError, UnicodeDecodeError)
            raise InvalidInput(f"`{file}` is not TOML: {error}", hint="mend the line it names") from None
        unknown = sorted(set(loaded) - names)
        if unknown:
            raise InvalidInput(
                f"unknown setting `{unknown[0]}` in `{file}`; known: {', '.join(sorted(names))}",
                hint="remove the line or mend its name",
            )
        wrong = next((name for name, value in loaded.items() if not isinstance(value, str)), None)
        if wrong is not None:
            raise InvalidInput(f"`{wrong}` in `{file}` is {loaded[wrong]!r}; allowed: a text", hint="put it in quotes")
        values.update(loaded)
    env = os.environ if environment is None else environment
    values.update({name: env[f"HEADRACE_{name.upper()}"] for name in names if f"HEADRACE_{name.upper()}" in env})
    values.update({name: value for name, value in (flags or {}).items() if value is not None})
    if "data" in values:
        values["data"] = Path(str(values["data"]))
    return replace(Settings(), **values)  # type: ignore[arg-type]


def resolve_reference(value: str) -> str:
    """The text behind `env:NAME` or `file:PATH`; any other value is itself. Never log the result."""
    kind, _, rest = value.partition(":")
    if kind == "env":
        if rest not in os.environ:
            raise InvalidInput(f"`{value}` names an environment variable that is not set", hint=f"export {rest}")
        return os.environ[rest]
    if kind == "file" and not rest.startswith("//"):
        try:
            return Path(rest).read_text().strip()
        except OSError as error:
            raise InvalidInput(f"`{value}` cannot be read: {error.strerror}", hint="check the path") from None
    return value


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that we start: our own with these changes."""
    return {**os.environ, **changes}
