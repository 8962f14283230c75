"""An MCP server for a PostgreSQL database: `python -m demo.servers.shop`. It passes SQL on as it comes.

It connects with the URL in DATABASE_URL, whoever has put it there, when it is asked for the first time, and stays
connected. As many a server does, it writes down what it connects with: into the file that DEMO_SHOP_LOG names.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from demo.servers.kit import Arguments, Tool, serve
from demo.shop.database import LOG, URL


@cache
def session() -> psycopg.Connection[tuple[Any, ...]]:
    url = os.environ[URL]
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"connect {url}\n")
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


def run_sql(arguments: Arguments) -> str:
    done = session().execute(arguments["sql"].encode())  # bytes: the text is the caller's, and that is this tool
    return json.dumps(done.fetchall() if done.description else done.statusmessage, default=str)


def orders_of_customer(arguments: Arguments) -> str:
    sql = "select id, item, status, address, note from shop.orders where customer = %s order by id"
    return json.dumps(session().execute(sql, (arguments["customer"],)).fetchall())


TOOLS = [
    Tool(
        "orders_of_customer", "The orders of a customer.", {"customer": "integer"}, orders_of_customer, reads_only=True
    ),
    Tool("run_sql", "Run any SQL statement.", {"sql": "string"}, run_sql),
]


if __name__ == "__main__":
    serve("shop", lambda: TOOLS)
