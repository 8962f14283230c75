"""What the owner wrote: catalogue, policy and mandates, read and checked against each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from forestall.catalogue import FileCatalogue
from forestall.catalogue import load as load_catalogue
from forestall.config import load, load_mandates
from forestall.core.errors import SetupError, cure
from forestall.core.model import Mandate, Tool
from forestall.home import Home
from forestall.policy import bundle
from forestall.policy.cedar import CedarEngine
from forestall.policy.problem import Problem, nearest, require_none

DEFAULT_MANDATE = """\
# What a connection may do when it asks for no other mandate. Policy decides each call within it.
purpose = "General work on this machine."
tools = ["*"]
effects = ["read", "write", "external", "destructive", "execute", "credential", "privilege"]
lifetime_minutes = 1440
"""
"""Written where there are no mandates at all. It limits nothing that the policy does not: its owner narrows it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the owner wrote: replaced as a whole by a reload, so that no decision sees half of two."""

    catalogue: FileCatalogue
    engine: CedarEngine
    mandates: Mapping[str, Mandate]
    policies: int
    """Of the owner, without the built-in ones."""
    notice: str = ""
    """What the owner should know, such as that nothing can be permitted."""
    credentials: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    """Classes that policy names, with the file, line and column where each is named first."""


def load_rules(home: Home, declared: Sequence[Tool] = ()) -> Rules:
    """Catalogue, policy and mandates, checked against each other. `declared`: tools that a program declares in code.

    Raises:
        SetupError: one of them is malformed, or a policy does not validate.
    """
    catalogue = _with(load_catalogue(home.catalogue), declared)
    policies, notice = bundle.from_texts({}), ""
    if home.policy.is_dir():
        policies = bundle.read(home.policy)
    engine = CedarEngine.build(policies, catalogue.all(), load(home).posture)
    engine.self_test()
    count = sum(not policy.id.startswith(bundle.OWN_PREFIX) for policy in policies.policies)
    if not count:
        notice = f"{home.policy} holds no policy, so every call is denied; run `forestall init`, or write one."
    elif not catalogue.all():
        notice = f"{home.catalogue} holds no reviewed tool, so every call is denied; run `forestall init`."
    return Rules(catalogue, engine, load_mandates(home), count, notice, classes_named(policies))


def classes_named(policies: bundle.Bundle) -> dict[str, tuple[str, int, int]]:
    found: dict[str, tuple[str, int, int]] = {}
    for policy in policies.policies:
        if (name := policy.annotations.get("credential")) is not None:
            found.setdefault(name, policy.at("credential"))
    return found


def missing_classes(named: Mapping[str, tuple[str, int, int]], known: Collection[str]) -> list[Problem]:
    """What policy names and `credentials.toml` does not have."""
    return [
        Problem(*place, f"credentials.toml has no class `{name}`.{nearest(name, known)}")
        for name, place in named.items()
        if name not in known
    ]


def require_classes(rules: Rules, known: Collection[str]) -> None:
    """Raises PolicyInvalid where policy names a class of credentials that there is not."""
    require_none(missing_classes(rules.credentials, known))


def no_rules(home: Home) -> Rules:
    """Before any tool is known, and so before a policy can be checked: nothing is permitted."""
    return Rules(
        FileCatalogue(), CedarEngine.build(bundle.from_texts({}), (), load(home).posture), load_mandates(home), 0
    )


def _with(catalogue: FileCatalogue, declared: Sequence[Tool]) -> FileCatalogue:
    for tool in declared:
        if any(known.server == tool.server for known in catalogue.all()):
            raise SetupError(f"The catalogue has a server {tool.server!r} already; give the guard another `name`.")
    return replace(catalogue, tools={**catalogue.tools, **{tool.id: tool for tool in declared}})


def write_default_mandate(home: Home) -> None:
    """Where there is no directory of mandates, a home is new. Raises SetupError where it cannot be made."""
    if home.mandates.exists():
        return
    try:
        home.mandates.mkdir(mode=0o700, parents=True)
        (home.mandates / "default.toml").write_text(DEFAULT_MANDATE)
    except OSError as error:
        raise SetupError(f"{home.mandates} cannot be made: {cure(error)}.") from None
