"""`forestall-edge`: permits demanded in front of a server that nobody can change.

Exit codes: 0 it was stopped; 64 the command line is wrong; 69 the address, the keys or the burns cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from forestall_edge.gate import Gate, McpHttp, PlainHttp
from forestall_edge.keys import KeyFile, Keys, KeyUrl
from forestall_edge.message import OPEN, Demand
from forestall_edge.refusal import Refused
from forestall_edge.sqlite_burns import SqliteBurns
from forestall_edge.verifier import Verifier

EPILOG = """\
examples:
  forestall-edge proxy --listen 127.0.0.1:9000 --upstream http://127.0.0.1:8000 --server files \\
      --audience https://files.example/mcp --keys ~/.forestall/run/permits.json --burns /var/lib/edge/burns.sqlite
  forestall-edge proxy ... --keys https://forestall.example/.well-known/forestall-permits.json
  forestall-edge proxy ... --template 'POST /orders' --template 'GET /orders/{id}' --open-template 'GET /health'

Keep the upstream's own address from everybody else: what reaches it there needs no permit. Without --template the
upstream speaks MCP at --path. Why a request was refused is said on standard error.
exit codes: 0 stopped, 64 the command line is wrong, 69 the address, the keys or the burns cannot be used
"""

WRONG, UNUSABLE = 64, 69


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return
        self.print_usage(sys.stderr)
        self.exit(WRONG, f"forestall-edge: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="forestall-edge: %(message)s")
    try:
        gate = _gate(args)
        return asyncio.run(_serve(args, gate))
    except ModuleNotFoundError:
        print("forestall-edge: the proxy needs h11; pip install 'forestall-edge[proxy]'.", file=sys.stderr)
        return UNUSABLE
    except ValueError as error:
        print(f"forestall-edge: {error}.", file=sys.stderr)
        return WRONG
    except (Refused, OSError) as error:
        print(f"forestall-edge: {error}.", file=sys.stderr)
        return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="forestall-edge", description="Demands Forestall's permit with each call.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="proxy")
    proxy = commands.add_parser(
        "proxy",
        help="a reverse proxy that lets nothing through without a permit",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    proxy.add_argument("--listen", required=True, metavar="ADDR", help="address and port, such as 127.0.0.1:9000")
    proxy.add_argument("--upstream", required=True, metavar="URL", help="the server that nobody can change")
    proxy.add_argument("--server", required=True, metavar="NAME", help="what the catalogue calls it")
    proxy.add_argument("--audience", required=True, metavar="URI", help="as under [permits.NAME]")
    proxy.add_argument("--instance", metavar="NAME", help="take permits for this instance alone")
    proxy.add_argument("--keys", required=True, metavar="FILE|URL", help="what the decision point publishes")
    proxy.add_argument("--burns", required=True, metavar="FILE", help="what was used; made where it is not there")
    proxy.add_argument("--skew", type=int, default=2, metavar="SECONDS", help="how far clocks may be apart (else 2)")
    proxy.add_argument("--path", default="/mcp", help="where the upstream speaks MCP (else /mcp)")
    proxy.add_argument("--open", action="append", default=[], metavar="METHOD", help="of MCP: needs no permit")
    proxy.add_argument("--template", action="append", default=[], help="no MCP: requests that need a permit")
    proxy.add_argument("--open-template", action="append", default=[], help="no MCP: requests that need none")
    proxy.add_argument("--certificate", metavar="FILE", type=Path, help="PEM, for TLS")
    proxy.add_argument("--key", metavar="FILE", type=Path, help="PEM, the certificate's key")
    return parser


def _gate(args: argparse.Namespace) -> Gate:
    """Raises Refused, ValueError."""
    burns = SqliteBurns(Path(args.burns).expanduser(), time.time)
    verifier = Verifier(_keys(args.keys), args.audience, burns, args.instance, skew_s=args.skew)
    if args.template or args.open_template:
        return PlainHttp(verifier, args.server, args.template, args.open_template)
    return McpHttp(Demand(verifier, args.server, open=OPEN | set(args.open)), args.path)


def _keys(where: str) -> Keys:
    """Looked at once, so that what is wrong is said at the start. Raises Refused, ValueError."""
    keys: Keys = KeyUrl(where) if "://" in where else KeyFile(Path(where).expanduser())
    keys.trust()
    return keys


async def _serve(args: argparse.Namespace, gate: Gate) -> int:
    """Until a signal. Raises OSError, ValueError, ModuleNotFoundError."""
    from forestall_edge.proxy import Proxy, Upstream

    host, colon, port = args.listen.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("--listen is an address and a port, such as 127.0.0.1:9000")
    if (args.certificate is None) != (args.key is None):
        raise ValueError("--certificate and --key go together")
    tls = None
    if args.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(args.certificate, args.key)
    proxy = Proxy(gate, Upstream.at(args.upstream))
    server = await proxy.serve(host.strip("[]"), int(port), tls)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    bound = server.sockets[0].getsockname()
    print(f"forestall-edge: listening at {bound[0]}:{bound[1]}", file=sys.stderr, flush=True)
    await stopped.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
