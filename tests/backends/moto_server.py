"""moto, as a server in a process of its own, with its account of which sessions there are.

What moto has no check for is checked before it: that a role's inline policies have 10,240 characters together.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from moto.iam.models import iam_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

ACCOUNT, MAX_ROLE_POLICY = "123456789012", 10_240

FULL = b"""<ErrorResponse><Error><Type>Sender</Type><Code>LimitExceeded</Code>
<Message>Maximum policy size of 10240 bytes exceeded</Message></Error></ErrorResponse>"""


def is_over(asked: Mapping[str, str]) -> bool:
    if asked.get("Action") != "PutRolePolicy":
        return False
    held = dict(iam_backends[ACCOUNT]["aws"].get_role(asked["RoleName"]).policies)
    held[asked["PolicyName"]] = asked["PolicyDocument"]
    return sum(len("".join(text.split())) for text in held.values()) > MAX_ROLE_POLICY


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        if is_over(dict(parse_qsl(body.decode("latin-1")))):
            start("409 Conflict", [("Content-Type", "text/xml"), ("Content-Length", str(len(FULL)))])
            return [FULL]
        if (
            environ["PATH_INFO"] != "/-/sessions"
            or environ.get("HTTP_AUTHORIZATION") != f"Bearer {settings['administrator']}"
        ):
            answer: Iterable[bytes] = moto(environ, start)
            return answer
        start("200 OK", [("Content-Type", "application/json")])
        sessions = sts_backends[ACCOUNT]["aws"].assumed_roles
        return [json.dumps([[each.session_name, each.policy, each.access_key_id] for each in sessions]).encode()]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
