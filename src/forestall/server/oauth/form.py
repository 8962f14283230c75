"""The body of a request to the token service: parameters as a form (RFC 6749, appendix B), each at most once."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput
from forestall.core.model import Json
from forestall.core.reason import Reason
from forestall.server.http.message import Request
from forestall.server.oauth.refusal import Code, Refusal, malformed

MAX_BODY = 65_536
"""Bytes: three tokens of the largest size, with room for the rest."""

MAX_PARAMETERS = 32

MAX_DETAILS = 32_768
"""Bytes of `authorization_details`."""

MEDIA_TYPE = "application/x-www-form-urlencoded"

Form = Mapping[str, str]
"""What has no value is not there (RFC 6749, 3.2)."""


def read_form(request: Request) -> Form:
    """Raises Refusal: invalid_request."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != MEDIA_TYPE:
        raise malformed("the body is no form")
    if request.query:
        raise malformed("parameters in the URL, where servers log them")
    if len(request.body) > MAX_BODY:
        raise malformed("the body is too large")
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.body),
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except (UnicodeDecodeError, ValueError):
        raise malformed("the body is a form that cannot be read") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise malformed("a parameter occurs twice")
    return {name: value for name, value in pairs if value}


def required(form: Form, name: str) -> str:
    """Raises Refusal: invalid_request."""
    if name not in form:
        raise malformed(f"`{name}` is missing")
    return form[name]


def read_details(form: Form) -> list[Json]:
    """`authorization_details` (RFC 9396, 2). Raises Refusal: invalid_authorization_details."""
    text = form.get("authorization_details", "")
    try:
        value = parse(text.encode(), max_bytes=MAX_DETAILS, max_depth=8)
    except (InvalidInput, UnicodeEncodeError):
        value = None
    if not isinstance(value, list):
        raise bad_details("not a list that every reader reads alike")
    return value


def bad_details(detail: str) -> Refusal:
    return Refusal(Code.INVALID_DETAILS, Reason.INVALID_MESSAGE, f"`authorization_details`: {detail}")
