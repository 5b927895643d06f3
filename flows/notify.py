"""Notices of how a run ended, by Apprise: mail, chat, webhook, whatever has an address.

`$IML_NOTIFY` holds the addresses, separated by spaces (`mailto://`, `slack://`, `json://` for a
webhook; Apprise's documentation lists them). Nothing set, nothing sent.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from components.core.errors import ImlError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas import FlowRun
    from prefect.states import State

SETTING = "IML_NOTIFY"
EVENTS = (
    "failed",
    "promoted",
    "rejected",
    "awaiting approval",
    "data refused",
    "skipped too long",
    "drift",
)
_logger = logging.getLogger(__name__)


def send(event: str, text: str) -> bool:
    """Send one event to every address; True when all took it, or there is none.

    A notice that cannot be sent is a warning in the log and never fails a run.

    Args:
        event: one of EVENTS; the title is "BoxPromptIML: <event>".
        text: what happened, for people.
    """
    addresses = os.environ.get(SETTING, "").split()
    if not addresses:
        return True
    from apprise import Apprise, NotifyType

    kind = NotifyType.FAILURE if event == "failed" else NotifyType.INFO
    sender = Apprise()
    known = [sender.add(address) for address in addresses]
    title = f"BoxPromptIML: {event}"
    sent = all(known) and bool(sender.notify(body=text, title=title, notify_type=kind))
    if not sent:
        # The addresses hold tokens, so none is repeated.
        _logger.warning("the notice %r did not reach every address of %s", event, SETTING)
    return sent


def failure(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of every flow for Failed and Crashed."""
    error = state.data
    why = error.line() if isinstance(error, ImlError) else state.message
    send("failed", f"{flow.name} {flow_run.name}: {why or 'no reason given'}")
