"""The program that a workload runs: Forestall's client of the Workload API, asked by lines of JSON on its input.

`{"ask": NAME, ...}` is answered with one line. With `"until": {...}` the answer is given as soon as it has those
members, and what it is by then if that takes too long; `"unlike": {...}` waits until it has none of those.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.spiffe import WorkloadApi
from forestall.core.errors import Unavailable
from forestall.proof import encoding
from forestall.proof.fault import InvalidProof
from forestall.proof.svid import verify_jwt_svid, verify_x509_svid

WAIT_S = 60.0
"""Seconds after which something that has to happen has failed to."""

Asked = Mapping[str, Any]


class Workload:
    def __init__(self, endpoint: str) -> None:
        self._changed = threading.Condition()
        self.api = WorkloadApi(
            endpoint,
            clock=now,
            waits=Waits(random.random, lambda closed, seconds: closed.wait(seconds)),
            on_change=self._notify,
        ).start()

    def answer(self, asked: Asked) -> dict[str, Any]:
        find: Callable[[Asked], dict[str, Any]] = getattr(self, f"ask_{asked['ask']}")
        until, unlike = asked.get("until"), asked.get("unlike", {})
        found: dict[str, Any] = {}

        def fits() -> bool:
            nonlocal found
            found = find(asked)
            other = all(name in found and found[name] != value for name, value in unlike.items())  # nothing is no other
            return (until or {}).items() <= found.items() and other

        with self._changed:
            if until is None and not unlike:
                fits()
            else:
                self._changed.wait_for(fits, WAIT_S)
        return found

    def ask_state(self, _asked: Asked) -> dict[str, Any]:
        return {"live": self.api.live, "problems": list(self.api.problems)}

    def ask_svid(self, _asked: Asked) -> dict[str, Any]:
        """Its own, without the key."""
        try:
            own = self.api.svids(now())[0]
        except Unavailable as error:
            return {"id": None, "problem": str(error)}
        chain = [base64.b64encode(each).decode() for each in own.chain]
        thumbprint = encoding.digest(own.chain[0])
        return {"id": str(own.id), "chain": chain, "thumbprint": thumbprint, "expires_at": own.expires_at}

    def ask_token(self, asked: Asked) -> dict[str, Any]:
        try:
            return {"token": self.api.jwt_svid(asked["audience"])}
        except Unavailable as error:
            return {"token": None, "problem": str(error)}

    def ask_verify(self, asked: Asked) -> dict[str, Any]:
        """What another's SVID says of it, by the bundles that this workload was told of."""
        at = now() + asked.get("later_ms", 0)
        domains = frozenset(asked["domains"])
        try:
            if "token" in asked:
                audience = asked["audience"]
                token = verify_jwt_svid(
                    asked["token"], self.api, audience=audience, trust_domains=domains, now=at, skew_ms=0
                )
                return {"id": str(token.id), "fault": None, "expires_at": token.expires_at}
            chain = [base64.b64decode(each) for each in asked["chain"]]
            svid = verify_x509_svid(chain, self.api, trust_domains=domains, now=at)
        except InvalidProof as refused:
            return {"id": None, "fault": refused.fault.value}
        return {"id": str(svid.id), "fault": None, "thumbprint": svid.thumbprint, "expires_at": svid.expires_at}

    def close(self) -> None:
        self.api.close()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def now() -> int:
    return time.time_ns() // 1_000_000


def answer_all(workload: Workload) -> None:
    """Until nobody asks any more."""
    try:
        for line in sys.stdin:
            print(json.dumps(workload.answer(json.loads(line))), flush=True)
    finally:
        workload.close()


if __name__ == "__main__":
    answer_all(Workload(sys.argv[1]))
