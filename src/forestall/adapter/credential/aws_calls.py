"""Calls of AWS: botocore says what is sent and what an answer means, and our own client carries it (`http.py`).

So that addresses, authorities, times and sizes are what the settings say, whatever is in the environment or in files of
the user's; and nothing is tried a second time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from forestall.adapter.credential.http import Ask, Unsent, Web, unavailable
from forestall.core.ask import CannotDo
from forestall.core.errors import SetupError
from forestall.core.reason import Reason

MAX_CLIENTS = 8
"""Kept: one for each service and key."""

_DROPPED = frozenset({"content-length", "host", "accept", "accept-encoding", "connection", "expect"})
"""Headers that the client writes itself, or that nobody signs."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Who asks."""

    id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    """Of temporary keys."""


NOBODY = Keys("none", "none")
"""For calls that are not signed."""


class AwsRefused(CannotDo):
    """AWS said no; certainly nothing was done."""

    def __init__(self, code: str, status: int, detail: str) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)
        self.code, self.status = code, status


class Calls:
    """Blocking, and safe to use from any thread."""

    def __init__(self, web: Web, region: str, endpoint: str | None = None) -> None:
        """`endpoint`: in place of AWS's own, for all services.

        Raises:
            SetupError: botocore is not there.
        """
        self._web, self._region, self._endpoint = web, region, endpoint
        self._lock = threading.Lock()
        self._clients: OrderedDict[tuple[str, Keys, str], Any] = OrderedDict()
        self._asking = threading.local()
        self._session = _session()

    def until(self) -> float:
        return self._web.until()

    def call(self, service: str, operation: str, keys: Keys, until: float, **parameters: Any) -> dict[str, Any]:
        """What AWS answered.

        Raises:
            AwsRefused: it said no.
            CannotDo: nobody knows whether it was done; Unsent, where it certainly was not.
        """
        from botocore.exceptions import ClientError, ParamValidationError

        client = self._client(service, keys)
        self._asking.until = until
        try:
            answer: dict[str, Any] = client._make_api_call(operation, parameters)  # noqa: SLF001 - by its name, as in the API
        except CannotDo:
            raise
        except ClientError as error:
            raise _refused(operation, error.response) from None
        except ParamValidationError:
            raise Unsent(Reason.UNAVAILABLE, f"AWS takes no such parameters for {operation}.") from None
        except Exception:  # noqa: BLE001 - what is no answer its parsers say in many ways, and quote it
            raise unavailable(f"AWS did not answer to {operation} as it should; see that it is up.") from None
        return answer

    def close(self) -> None:
        self._web.close()

    def _client(self, service: str, keys: Keys) -> Any:
        with self._lock:
            known = (service, keys, keys.secret + keys.token)
            if known not in self._clients:
                self._clients[known] = self._made(service, keys)
                while len(self._clients) > MAX_CLIENTS:
                    self._clients.popitem(last=False)
            self._clients.move_to_end(known)
            return self._clients[known]

    def _made(self, service: str, keys: Keys) -> Any:
        from botocore.config import Config

        client = self._session.create_client(
            service,
            region_name=self._region,
            endpoint_url=self._endpoint,
            aws_access_key_id=keys.id,
            aws_secret_access_key=keys.secret,
            aws_session_token=keys.token or None,
            config=Config(
                retries={"total_max_attempts": 1},
                ignore_configured_endpoint_urls=True,
                disable_request_compression=True,
            ),
        )
        client.meta.events.register(f"before-send.{service}", self._carry)
        return client

    def _carry(self, request: Any, **_: Any) -> Any:
        """In place of botocore's own connection."""
        from botocore.awsrequest import AWSResponse

        given = {_text(name).lower(): _text(value) for name, value in request.headers.items()}
        headers = {name: value for name, value in given.items() if name not in _DROPPED}
        body = request.body.encode() if isinstance(request.body, str) else request.body
        ask = Ask(request.method, request.url, {**headers, "accept": "*/*"}, body=body or None)
        answer = self._web.ask(ask, until=self._asking.until)
        return AWSResponse(request.url, answer.status, dict(answer.headers), _Raw(answer.body))


class _Raw(BytesIO):
    """A body as botocore takes it."""

    def stream(self, *_: object, **__: object) -> Any:
        yield self.read()


def _session() -> Any:
    try:
        import botocore.session
    except ImportError:
        raise SetupError("The backend `aws` needs botocore; run `pip install 'forestall[aws]'`.") from None
    logging.getLogger("botocore").setLevel(logging.CRITICAL)  # it logs whole requests and answers, secrets among them
    nowhere = {"profile": (None, None, None, None)}
    session = botocore.session.Session(session_vars=nowhere)
    for name in ("config_file", "credentials_file"):
        session.set_config_variable(name, os.devnull)
    return session


def _refused(operation: str, response: Mapping[str, Any]) -> CannotDo:
    """Without AWS's own words, which repeat what was sent."""
    code = str(response.get("Error", {}).get("Code", ""))[:64]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    plain = code if code.isascii() and code.replace(".", "").isalnum() else "something else"
    if not 400 <= status < 500:
        return unavailable(f"AWS failed to do {operation} ({plain}); see that it is up.")
    advice = _ADVICE.get(code, "look at the role, its trust, and what Forestall may do there")
    return AwsRefused(code, status, f"AWS refuses {operation} ({plain}); {advice}.")


_ADVICE = {
    "AccessDenied": "look at the role's trust, and at what Forestall may do there",
    "ExpiredToken": "Forestall's own credentials ran out",
    "ExpiredTokenException": "Forestall's own token ran out",
    "InvalidClientTokenId": "look at Forestall's own credentials",
    "InvalidIdentityToken": "look at the token file, and at the identity provider in IAM",
    "MalformedPolicyDocument": "look at `allow` and its resources",
    "PackedPolicyTooLarge": "name fewer actions, resources or tags",
    "SignatureDoesNotMatch": "look at Forestall's own credentials, and at this machine's clock",
    "Throttling": "it limits how often it is asked, and may be asked again later",
    "ThrottlingException": "it limits how often it is asked, and may be asked again later",
}


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
