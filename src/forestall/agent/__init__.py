"""An agent's own side: open a task, hand it on, take one over, end it (docs/agent.md).

    from forestall.agent import Agent, RegisteredKey, read_key

    agent = Agent("https://forestall.example", RegisteredKey("support-agent", read_key(Path("agent.jwk"))))
    held = agent.open("refund", parameters={"order": "004711"})
    ticket = agent.delegate(held, to="spiffe://example.org/shipping", tools=["shop/read_order"])
    agent.complete(held)

Nothing here decides anything: the decision point does, and says so in the ledger.
"""

from forestall.agent.client import Agent, TaskRefused
from forestall.agent.held import Held, Ticket
from forestall.agent.identity import ClientCertificate, Identity, JwtSvid, RegisteredKey, TokenFile
from forestall.agent.key import new_key, read_key, write_key

__all__ = [
    "Agent",
    "ClientCertificate",
    "Held",
    "Identity",
    "JwtSvid",
    "RegisteredKey",
    "TaskRefused",
    "Ticket",
    "TokenFile",
    "new_key",
    "read_key",
    "write_key",
]
