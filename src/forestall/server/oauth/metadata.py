"""What clients find out about the service before they ask (RFC 8414, 2), and the keys that it signs with."""

from __future__ import annotations

from forestall.identities import CLIENT_ALGORITHMS
from forestall.proof.id_jag import GRANT_PROFILE
from forestall.proof.possession import PROOF_ALGORITHMS
from forestall.proof.ticket import DETAIL_TYPE as DELEGATION
from forestall.proof.token import DETAIL_TYPE
from forestall.server.http.message import Request, Response, json_response
from forestall.server.oauth.service import Service
from forestall.server.oauth.token import GRANT_TYPES

_METHODS = ["private_key_jwt", "spiffe_jwt", "tls_client_auth"]


async def metadata(service: Service, _request: Request) -> Response:
    issuer = service.tokens.issuer
    base = issuer.rstrip("/")
    document = {
        "issuer": issuer,
        "token_endpoint": f"{base}/token",
        "introspection_endpoint": f"{base}/introspect",
        "revocation_endpoint": f"{base}/revoke",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": list(GRANT_TYPES),
        "authorization_grant_profiles_supported": [GRANT_PROFILE],
        "token_endpoint_auth_methods_supported": _METHODS,
        "token_endpoint_auth_signing_alg_values_supported": list(CLIENT_ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": _METHODS,
        "revocation_endpoint_auth_methods_supported": _METHODS,
        "dpop_signing_alg_values_supported": sorted(each.value for each in PROOF_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": True,
        "authorization_details_types_supported": [DETAIL_TYPE, DELEGATION],
    }
    return json_response(200, document)


async def jwks(service: Service, _request: Request) -> Response:
    return json_response(200, service.tokens.keys.public(service.now()).to_json())
