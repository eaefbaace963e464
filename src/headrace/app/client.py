"""The command line's HTTP client: an operation asked of a running headrace."""

from __future__ import annotations

import http.client
import re
import ssl
from typing import Any, get_type_hints
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from headrace.app.arguments import parameters
from headrace.app.encoding import plain
from headrace.data.json_fields import UNREADABLE
from headrace.kernel import errors
from headrace.kernel.errors import EngineUnreachable, HeadraceError, IncompatibleFormat, UsageError
from headrace.kernel.ids import new_id
from headrace.kernel.operation import Operation
from headrace.kernel.settings import resolve_reference

TIMEOUT_SECONDS = 600
JSON = "application/json"


def call(url: str, key: str, operation: Operation, arguments: dict[str, Any]) -> Any:
    """The JSON result, of an operation with `found_bad` as what its function returns. Raises the server's error with its class,
    EngineUnreachable when nobody answers, IncompatibleFormat for an answer that is not of that type."""
    if operation.http is None:
        raise UsageError(
            f"`headrace {operation.cli}` works on a data folder only", hint="give --data instead of --url or HEADRACE_URL"
        )
    local = [p.option for p in parameters(operation) if p.kind == "path" and arguments.get(p.name) is not None]
    if local:
        raise UsageError(f"{local[0]} names a file of this machine, which a server does not open", hint="give --data instead")
    method, _, template = operation.http.partition(" ")
    rest = {p.public: arguments[p.name] for p in parameters(operation) if p.name in arguments}
    path = re.sub(r"{(\w+)}", lambda match: quote(str(rest.pop(match[1])), safe=""), "/api/v1" + template)
    body = b""
    if method == "GET":
        path += "?" + urlencode({name: value for name, value in rest.items() if value is not None}, doseq=True) if rest else ""
    else:
        body = msgspec.json.encode(plain(rest))
    answer = request(url, method, path, body, key=key)
    return answer if operation.found_bad is None else _typed(operation, answer)


def _typed(operation: Operation, answer: Any) -> Any:
    try:
        return msgspec.convert(answer, get_type_hints(operation.function)["return"])
    except msgspec.ValidationError as error:
        raise IncompatibleFormat(
            f"the answer to `headrace {operation.cli}` is not of this version: {error}", hint="use the version of the server"
        ) from None


def request(url: str, method: str, path: str, body: bytes, *, key: str = "", timeout: float = TIMEOUT_SECONDS) -> Any:
    """One request; the decoded answer. Raises as `call`."""
    content = exchange(url, method, path, body, key=key, timeout=timeout)
    try:
        return msgspec.json.decode(content)
    except UNREADABLE:
        raise HeadraceError(f"the answer of {url} is no headrace answer", hint="check --url") from None


def exchange(
    url: str, method: str, path: str, body: bytes, *, key: str = "", media_type: str = JSON, timeout: float = TIMEOUT_SECONDS
) -> bytes:
    """One request with a body of `media_type`; the content of the answer. Raises as `call`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    headers = {"Content-Type": media_type, "Idempotency-Key": new_id()}
    if key:
        headers["Authorization"] = f"Bearer {_checked_key(resolve_reference(key))}"
    connection = _connection(url, parts, timeout)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
    except ssl.SSLCertVerificationError as error:
        raise EngineUnreachable(
            f"the certificate of {url} is not trusted: {error.verify_message}", hint="export SSL_CERT_FILE=CERTIFICATE.pem"
        ) from None
    except OSError as error:
        raise EngineUnreachable(f"nobody answers at {url}: {error}", hint="start it with `headrace run FILE`") from None
    except http.client.HTTPException as error:
        raise HeadraceError(f"what answers at {url} does not speak HTTP: {error!r}", hint="check --url") from None
    finally:
        connection.close()
    if answer.status >= 400:
        raise _error(answer.status, content)
    return content


def _connection(url: str, parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    """UsageError for a URL that leads nowhere."""
    if parts.scheme in ("http", "https") and parts.netloc:
        try:
            if parts.scheme == "http":
                return http.client.HTTPConnection(parts.netloc, timeout=timeout)
            return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=ssl.create_default_context())
        except http.client.InvalidURL:
            pass
    raise UsageError(f"`{url}` is no http or https URL", hint="for example http://127.0.0.1:8420")


def _checked_key(key: str) -> str:
    """UsageError for what no header can hold; the key itself is not shown."""
    if not (key.isascii() and key.isprintable()):
        raise UsageError("the key has a character that no key has, such as a line break", hint="copy it again")
    return key


def _error(status: int, content: bytes) -> HeadraceError:
    """The error the server reported, as the class with its code."""
    try:
        told = msgspec.json.decode(content)["error"]
        code, message, hint, field = str(told["code"]), str(told["message"]), str(told["hint"]), told.get("field")
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        return HeadraceError(f"the answer has status {status} and is no headrace answer", hint="check --url")
    classes = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HeadraceError)}
    return classes.get(code, HeadraceError)(message, hint=hint, field=field)
