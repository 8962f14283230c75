"""`forestall task`: an agent's own side of its tasks, over HTTP, for shell scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forestall.core.errors import InvalidInput, SetupError, cure

if TYPE_CHECKING:
    from forestall.agent import Agent, Held, Identity

URL = "FORESTALL_URL"
ENDPOINT = "SPIFFE_ENDPOINT_SOCKET"

MAX_FILE = 65_536
"""Bytes of a token, a ticket or a request in a file."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

DESCRIPTION = (
    "Open a task at a decision point, hand it on to another agent, take one over, extend and end it: what an agent "
    "does that reaches the decision point over HTTP. A grant is kept in a file with its key, for its owner alone."
)

EPILOG = """\
examples:
  export FORESTALL_URL=https://forestall.example
  forestall task key agent.jwk > agent.jwks
  forestall task open refund --client support --key agent.jwk --parameter order=004711 --out grant.json
  forestall task delegate grant.json --client support --key agent.jwk --to shipping --tool 'shop/read_*' > ticket
  forestall task accept ticket --client shipping --key shipping.jwk --out shipping.json
  forestall task show shipping.json --client shipping --key shipping.jwk
  forestall task complete grant.json --client support --key agent.jwk

exit codes: 0 done; for show: the grant counts; 1 it does not; 69 the decision point does not answer; 77 refused
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True, title="what")

    key = what.add_parser("key", help="make a key, and print what to register of it")
    key.add_argument("file", metavar="FILE", type=Path, help="a new file for the private key")
    key.add_argument("--es256", action="store_true", help="of P-256 (else Ed25519)")

    opened = _asking(what, "open", "open a task under a mandate")
    opened.add_argument("mandate", metavar="MANDATE")
    opened.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="of the mandate")
    opened.add_argument("--purpose", default="", metavar="TEXT", help="what the task is for")
    opened.add_argument("--tool", action="append", default=[], metavar="GLOB", help="only these; may be repeated")
    opened.add_argument("--effect", action="append", default=[], metavar="EFFECT", help="only these; may be repeated")
    opened.add_argument("--request", default="", metavar="TEXT", help="what the user asked, as the agent says it")
    opened.add_argument("--signed-request", metavar="FILE", type=Path, help="the same, as a front end signed it")
    opened.add_argument("--user-token", metavar="FILE", type=Path, help="the ID token of the user it is for")
    opened.add_argument("--lifetime", metavar="TIME", type=_seconds, help="less than the mandate's: 90s, 20m, 8h")
    opened.add_argument("--out", required=True, metavar="FILE", type=Path, help="the grant and its key")

    handed = _asking(what, "delegate", "a ticket for another agent, to standard output")
    _grant(handed)
    handed.add_argument("--to", required=True, metavar="AGENT", help="its id: a SPIFFE ID, or that of a client")
    handed.add_argument("--tool", action="append", metavar="GLOB", help="only these; may be repeated")
    handed.add_argument("--effect", action="append", metavar="EFFECT", help="only these; may be repeated")
    handed.add_argument("--budget", action="append", default=[], metavar="WHAT=COUNT", help="such as write=5")
    handed.add_argument("--lifetime", metavar="TIME", type=_seconds, help="from now on: 90s, 20m, 8h")
    handed.add_argument("--max-depth", type=int, metavar="N", help="how deep the tree may become")
    handed.add_argument("--out", metavar="FILE", type=Path, help="into this file, for its owner alone")

    taken = _asking(what, "accept", "a grant for a ticket")
    taken.add_argument("ticket", metavar="TICKET", help="the file that it is in; - for standard input")
    taken.add_argument("--out", required=True, metavar="FILE", type=Path, help="the grant and its key")

    longer = _asking(what, "extend", "have a task live longer; the grant's file is written anew")
    _grant(longer)
    longer.add_argument("--lifetime", required=True, metavar="TIME", type=_seconds, help="from now on: 90s, 20m, 8h")

    ended = _asking(what, "complete", "end a task, with all below it")
    _grant(ended)
    ended.add_argument("--failed", action="store_true", help="it did not come to its purpose")

    _grant(_asking(what, "show", "what a grant says, and whether it counts now"))


def run(args: argparse.Namespace) -> int:
    code: int = _ACTIONS[args.what](args)
    return code


# -- what is asked


def _key(args: argparse.Namespace) -> int:
    from forestall.agent import new_key, write_key
    from forestall.proof.algorithm import Algorithm
    from forestall.proof.jwk import key_set

    if args.file.exists():
        raise SetupError(f"{args.file} is there already; a key is never written over.")
    key = new_key(Algorithm.ES256 if args.es256 else Algorithm.EDDSA)
    write_key(args.file, key)
    print(json.dumps(key_set([key]).to_json(), indent=2))
    return 0


def _open(args: argparse.Namespace) -> int:
    held = _agent(args).open(
        args.mandate,
        parameters=dict(_pair(each) for each in args.parameter),
        purpose=args.purpose,
        tools=args.tool,
        effects=args.effect,
        request=args.request,
        signed_request=_text(args.signed_request),
        user_token=_text(args.user_token),
        lifetime_s=args.lifetime,
    )
    return _keep(args, held, args.out)


def _delegate(args: argparse.Namespace) -> int:
    narrower: dict[str, Any] = {
        "tools": args.tool,
        "effects": args.effect,
        "budget": {name: _count(value) for name, value in map(_pair, args.budget)} or None,
        "expires_at": None if args.lifetime is None else _now() + args.lifetime * 1000,
        "max_depth": args.max_depth,
    }
    given = {name: value for name, value in narrower.items() if value is not None}
    ticket = _agent(args).delegate(_held(args), to=args.to, **given)
    if args.out is None:
        print(json.dumps({"ticket": ticket.token, "expires_in_s": ticket.expires_in_s}) if args.json else ticket.token)
        return 0
    from forestall.agent.key import write_private_bytes

    write_private_bytes(args.out, f"{ticket.token}\n".encode())
    return _say(args, {"ticket": str(args.out), "expires_in_s": ticket.expires_in_s}, f"{args.out}: for {args.to}")


def _accept(args: argparse.Namespace) -> int:
    ticket = _stdin() if args.ticket == "-" else _text(Path(args.ticket))
    return _keep(args, _agent(args).accept(ticket), args.out)


def _extend(args: argparse.Namespace) -> int:
    held = _agent(args).extend(_held(args), expires_at=_now() + args.lifetime * 1000)
    return _keep(args, held, args.grant)


def _complete(args: argparse.Namespace) -> int:
    held = _held(args)
    _agent(args).complete(held, failed=args.failed)
    return _say(args, {"task": held.task, "ended": True}, f"{held.task} has ended")


def _show(args: argparse.Namespace) -> int:
    said = _agent(args).introspect(_held(args).token)
    from forestall.setup.token import printable

    lines = [f"{printable(name):<22} {printable(_shown(value))}" for name, value in said.items()]
    _say(args, said, "\n".join(lines))
    return 0 if said.get("active") is True else 1


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "key": _key,
    "open": _open,
    "delegate": _delegate,
    "accept": _accept,
    "extend": _extend,
    "complete": _complete,
    "show": _show,
}


# -- who asks


def _asking(what: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = what.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    who = parser.add_argument_group("who asks, and whom")
    who.add_argument("--url", metavar="URL", help=f"the decision point (else ${URL})")
    who.add_argument(
        "--ca", metavar="FILE", type=Path, help="PEM of its certificate's authorities (else the machine's)"
    )
    who.add_argument("--client", metavar="ID", help="a registered client; with --key")
    who.add_argument("--key", metavar="FILE", type=Path, help="its private key, a JWK")
    who.add_argument("--token-file", metavar="FILE", type=Path, help="a workload token, as of a Kubernetes pod")
    who.add_argument("--spiffe", action="store_true", help=f"the JWT-SVID that ${ENDPOINT} gives")
    who.add_argument(
        "--certificate", metavar="FILE", type=Path, help="a client certificate, PEM; with --certificate-key"
    )
    who.add_argument("--certificate-key", metavar="FILE", type=Path, help="its key, PEM")
    return parser


def _grant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grant", metavar="GRANT", type=Path, help="the file of the grant")


def _agent(args: argparse.Namespace) -> Agent:
    from forestall.agent import Agent

    url = args.url or os.environ.get(URL)
    if not url:
        raise SetupError(f"Say which decision point: --url, or {URL}.")
    return Agent(url, _identity(args), ca_file=args.ca, bound_to_certificate=args.certificate is not None)


def _identity(args: argparse.Namespace) -> Identity:
    from forestall.agent import ClientCertificate, RegisteredKey, TokenFile, read_key

    given = [args.client or args.key, args.token_file, args.spiffe, args.certificate or args.certificate_key]
    if sum(map(bool, given)) != 1:
        raise SetupError("Say who asks, in one way: --client and --key, --token-file, --spiffe, or --certificate.")
    if args.token_file:
        return TokenFile(args.token_file)
    if args.spiffe:
        return _spiffe()
    if args.certificate or args.certificate_key:
        if not (args.certificate and args.certificate_key):
            raise SetupError("--certificate and --certificate-key go together.")
        return ClientCertificate.of_files(args.certificate, args.certificate_key)
    if not (args.client and args.key):
        raise SetupError("--client and --key go together.")
    return RegisteredKey(args.client, read_key(args.key))


def _spiffe() -> Identity:
    import random

    from forestall.adapter.workload.follow import Waits
    from forestall.adapter.workload.spiffe import WorkloadApi
    from forestall.agent import JwtSvid

    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        raise SetupError(f"Say where the Workload API is: {ENDPOINT}.")
    waits = Waits(random=random.random, wait=lambda event, seconds: event.wait(seconds))
    return JwtSvid(WorkloadApi(endpoint, clock=_now, waits=waits).jwt_svid)


# -- what is read and written


def _held(args: argparse.Namespace) -> Held:
    from forestall.agent import Held

    return Held.read(args.grant)


def _keep(args: argparse.Namespace, held: Held, path: Path) -> int:
    held.write(path)
    said = {"task": held.task, "expires_at": held.expires_at, "grant": str(path)}
    return _say(args, said, f"{held.task}  until {_time(held.expires_at)}  {path}")


def _say(args: argparse.Namespace, said: Mapping[str, Any], sentence: str) -> int:
    print(json.dumps(dict(said), ensure_ascii=False) if args.json else sentence)
    return 0


def _text(path: Path | None) -> str:
    """One token, or a line of text. Never shown."""
    if path is None:
        return ""
    try:
        data = path.read_bytes()[: MAX_FILE + 1]
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    return _line(data, str(path))


def _stdin() -> str:
    return _line(sys.stdin.buffer.read(MAX_FILE + 1), "Standard input")


def _line(data: bytes, where: str) -> str:
    text = data.decode("ascii", "replace").strip()
    if not text or len(data) > MAX_FILE or not text.isascii() or any(character.isspace() for character in text):
        raise InvalidInput(f"{where} does not hold one token.")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInput(f"{text!r:.80} is not of the form NAME=VALUE.")
    return name, value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput(f"{text!r:.80} is not a whole number.")
    return int(text)


def _seconds(text: str) -> int:
    number, unit = text[:-1], UNITS.get(text[-1:])
    if unit is None or not number.isascii() or not number.isdigit() or not 0 < len(number) < 8:
        raise argparse.ArgumentTypeError("a time is a whole number with s, m, h or d, such as 20m")
    return int(number) * unit


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at / 1000))


def _now() -> int:
    return time.time_ns() // 1_000_000
