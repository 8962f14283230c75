"""Other engines than databases: certificates that are written for, and secrets that stand."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.adapter.credential.context import Context
from forestall.core.ask import CannotDo
from forestall.core.toml import parse_toml
from forestall.credentials.openbao import open_source
from forestall.table import Table
from forestall.testing.broker import secret_of
from interop.vault.desk import SITE, TIMEOUT_S, bench_of, grant, now
from interop.vault.shop import Shop

POLICY = """\
path "pki/issue/shop" { capabilities = ["update"] }
path "kv/data/mail" { capabilities = ["read"] }
"""
CERTIFICATE = """\
kind = "dynamic"
path = "pki/issue/shop"
method = "write"
data = {{ common_name = "{{customer}}.example", ttl = "{ttl}" }}
"""
STANDING = """\
address = "{address}"
ca_file = "{ca}"
login = {{ method = "approle", role_id = "{role_id}", secret_id_file = "{secret_id}" }}
path = "{path}"
field = "{field}"
"""


@pytest.fixture(scope="module", autouse=True)
def _engines(shop: Shop) -> Iterator[None]:
    """An authority for certificates, and a secret; the token role and Forestall's policy know of them."""
    ask = shop.server.ask
    ask("POST", "sys/mounts/pki", {"type": "pki"})
    ask("POST", "pki/root/generate/internal", {"common_name": "the shop's authority"})
    ask("POST", "pki/roles/shop", {"allow_any_name": True, "generate_lease": True, "max_ttl": "1h"})
    ask("POST", "kv/data/mail", {"data": {"key": "a-key-of-the-test", "count": 3}})
    ask("PUT", "sys/policies/acl/engines", {"policy": POLICY})
    before = ask("GET", "sys/policies/acl/forestall")["data"]["policy"]
    more = 'path "kv/data/mail" { capabilities = ["read"] }\n'
    more += 'path "sys/leases/lookup/pki/issue/shop" { capabilities = ["list", "sudo"] }\n'
    ask("PUT", "sys/policies/acl/forestall", {"policy": f"{before}\n{more}"})
    ask("POST", "auth/token/roles/forestall", {"allowed_policies": "shop-ro,shop-rw,engines"})
    yield
    ask("POST", "auth/token/roles/forestall", {"allowed_policies": "shop-ro,shop-rw"})
    ask("PUT", "sys/policies/acl/forestall", {"policy": before})


CLASS = SITE.replace('policies = ["{{role}}"]', 'policies = ["engines"]') + CERTIFICATE


@pytest.mark.parametrize("lost", [False, True])
def test_a_certificate_is_written_for_with_the_tasks_parameter_and_revoked(shop: Shop, lost: bool) -> None:
    with bench_of(shop, CLASS, ttl="50s") as bench:
        bench.grant = grant(parameters={"customer": "ada"})
        lease = bench.issued()
        fields = secret_of(lease).fields
        assert fields["certificate"].startswith("-----BEGIN CERTIFICATE-----")
        assert fields["private_key"].startswith("-----BEGIN ")
        assert lease.name in bench.alive()
        bench.broker.revoke(replace(lease, secret=None) if lost else lease)
        assert lease.name not in bench.alive()
        serial = fields["serial_number"]
        assert shop.server.ask("GET", f"pki/cert/{serial}")["data"]["revocation_time"] > 0


def test_one_that_would_outlive_its_lease_and_cannot_be_brought_down_is_refused(shop: Shop) -> None:
    with bench_of(shop, CLASS, ttl="50m") as bench:
        bench.grant = grant(parameters={"customer": "ada"})
        lease = bench.lease()
        with pytest.raises(CannotDo, match="set the end of a secret"):
            bench.broker.issue(lease)
        bench.broker.revoke(lease)
        assert shop.server.leases("pki/issue/shop") == []


def test_a_secret_that_stands_is_not_lent_as_if_it_could_be_ended(shop: Shop) -> None:
    text = CLASS.replace(CERTIFICATE, 'kind = "dynamic"\npath = "kv/data/mail"\n')
    with bench_of(shop, text) as bench:
        lease = bench.lease()
        with pytest.raises(CannotDo, match="one that stands is lent as `static`"):
            bench.broker.issue(lease)


def test_it_is_read_when_it_is_used(shop: Shop) -> None:
    assert read(shop) == "a-key-of-the-test"
    shop.server.ask("POST", "kv/data/mail", {"data": {"key": "the-next-key"}})
    assert read(shop) == "the-next-key"


def test_one_that_was_deleted_or_is_not_ours_is_not_had(shop: Shop) -> None:
    for path, field in (("kv/data/mail", "none"), ("kv/data/other", "key")):
        with pytest.raises(CannotDo):
            read(shop, path, field)
    shop.server.ask("DELETE", "kv/data/mail")
    with pytest.raises(CannotDo, match="404"):
        read(shop)


def read(shop: Shop, path: str = "kv/data/mail", field: str = "key") -> str:
    words = {"address": shop.server.address, "ca": shop.ca, "role_id": shop.role_id, "secret_id": shop.secret_id}
    text = STANDING.format(**words, path=path, field=field)
    file = Path("/nowhere/credentials.toml")
    context = Context("0a1b2c3d", now, secrets.token_bytes, TIMEOUT_S, file.parent)
    return open_source(Table.of_file(parse_toml(text, file), text, file), context).read()
