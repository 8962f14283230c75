"""The conversations beside the tool call: listing tools, showing them, and methods that the table does not know."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from forestall.core.errors import InvalidInput
from forestall.core.reason import Reason
from forestall.pep.mcp import denial
from forestall.pep.mcp.message import MAX_FROM_SERVER, Id, Message
from forestall.pep.mcp.methods import META
from forestall.pep.mcp.tools import MAX_PAGES, Definitions, filtered, require_listing, well_formed
from forestall.pep.mcp.want import AnswerServer, Forward, Hand, Interrupted, Question, Ready, Report, Talk, Tell, Want

MAX_LIST = MAX_FROM_SERVER
"""Bytes of a whole list, all pages: a frame to the decision point holds no more."""

MAX_SHOWN_NAME = 256
"""Characters of a tool's name that are told of a call that was refused for its form."""

MAX_DETAIL = 512
"""Characters that the decision point takes of what was wrong with a message."""

NO_DECISION_POINT = "The decision point cannot be used now, so this is not passed on."


def list_tools(definitions: Definitions, meta: Mapping[str, Any], steady: Callable[[], int]) -> Talk:
    """Learn the server's whole list, and tell the decision point. Leaves the definitions stale where that fails."""
    asked_at, generation = steady(), definitions.generation
    try:
        tools = yield from _whole_list({name: value for name, value in meta.items() if name.startswith(META)})
    except (InvalidInput, Interrupted):
        return None
    definitions.replace(tools, asked_at, generation)
    yield Report({"type": "tools", "tools": well_formed(tools)})
    return None


def _whole_list(meta: Mapping[str, Any]) -> Generator[Want, Any, list[Any]]:
    """Every page.

    Raises:
        InvalidInput: the server does not say.
    """
    tools: list[Any] = []
    size = 0
    params: dict[str, Any] = {"_meta": meta} if meta else {}
    for _ in range(MAX_PAGES):
        answer: Message = yield Question("tools/list", params)
        size += len(answer.line)
        if size > MAX_LIST:
            raise InvalidInput(f"The server's list of tools is longer than {MAX_LIST} bytes.")
        if answer.value.get("error", {}).get("code") == denial.METHOD_NOT_FOUND:
            return []  # it has no tools at all
        result = answer.value.get("result", {})
        tools = require_listing({"tools": tools + require_listing(result)})
        if result.get("nextCursor") is None:
            return tools
        params = {**params, "cursor": result["nextCursor"]}
    raise InvalidInput(f"The server's list of tools has more than {MAX_PAGES} pages.")


def show_tools(message: Message, definitions: Definitions, steady: Callable[[], int], *, modern: bool) -> Talk:
    """Pass on the client's `tools/list`, and show it what the decision point lets it see."""
    asked_at, generation = steady(), definitions.generation
    try:
        answer: Message = yield Forward(message.line)
        if "error" in answer.value:
            return answer.line
        tools = require_listing(answer.value["result"])
        if message.params.get("cursor") is None and answer.value["result"].get("nextCursor") is None:
            definitions.replace(tools, asked_at, generation)
        else:
            definitions.learn(tools)
        yield Ready()
        verdicts = (yield Tell({"type": "tools", "tools": well_formed(tools)})).get("tools")
    except InvalidInput as wrong:
        return denial.error(message.id, denial.INTERNAL_ERROR, str(wrong))
    except Interrupted as why:
        return denial.error(message.id, denial.INTERNAL_ERROR, str(why) or NO_DECISION_POINT)
    seen = verdicts if isinstance(verdicts, list) else []
    return filtered(answer.line, answer.value, seen, definitions, modern=modern)


def unknown_from_client(message: Message) -> Talk:
    """A method that is not in the table: passed on only if policy permits it."""
    refused = yield from _refused(message, "client")
    if message.id is None:
        if refused is None:
            yield Hand(message, to_server=True)
        return None
    if refused is not None:
        sentence = f"The method {message.method} is not permitted here."
        return denial.error(message.id, denial.METHOD_NOT_FOUND, sentence, refused)
    try:
        answer: Message = yield Forward(message.line)
    except Interrupted as why:
        return denial.error(message.id, denial.INTERNAL_ERROR, str(why))
    return answer.line


def unknown_from_server(message: Message) -> Talk:
    """The same, asked by the server. Whoever is refused is told, unless it was a notification."""
    if (yield from _refused(message, "server")) is None:
        yield Hand(message, to_server=False)
    elif message.id is not None:
        sentence = f"The method {message.method} is not permitted here."
        yield AnswerServer(denial.error(message.id, denial.METHOD_NOT_FOUND, sentence))
    return None


def refuse(identity: Id | None, code: int, sentence: str) -> Talk:
    """Answer a message that was not understood, once it is recorded that it was refused."""
    return denial.error(identity, code, sentence, (yield from _noted(Reason.INVALID_MESSAGE, sentence)))


def refuse_call(message: Message, sentence: str, definitions: Definitions, *, modern: bool) -> Talk:
    """The same for a tool call whose params are not those of one."""
    name = message.params.get("name")
    described = isinstance(name, str) and definitions.describes_output(name)
    detail = f"{name}: {sentence}" if isinstance(name, str) and len(name) <= MAX_SHOWN_NAME else sentence
    decision = yield from _noted(Reason.INVALID_ARGUMENTS, detail)
    assert message.id is not None
    return denial.refusal(message.id, {**decision, "sentence": sentence}, modern=modern, described=described)


def drop(sentence: str) -> Talk:
    """Have it recorded that something was refused which cannot be answered."""
    yield from _noted(Reason.INVALID_MESSAGE, sentence)
    return None


def _noted(reason: Reason, detail: str) -> Generator[Want, Any, Mapping[str, Any]]:
    """The denial, as recorded; without an id where nobody could record it."""
    try:
        answer = yield Tell({"type": "refused", "reason": reason.value, "detail": detail[:MAX_DETAIL]})
    except Interrupted:
        return denial.own_decision(reason)
    return denial.decision_in(answer)


def _refused(message: Message, direction: str) -> Generator[Want, Any, Mapping[str, Any] | None]:
    """The denial; None where the decision point permits the method."""
    try:
        yield Ready()
        answer = yield Tell({"type": "method", "method": message.method, "direction": direction})
    except Interrupted:
        return denial.own_decision(Reason.UNAVAILABLE)
    return None if answer["type"] == "permit" else denial.decision_in(answer)
