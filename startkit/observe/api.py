"""What the engine says over its socket.

Rule: an answer is kept as it came, whatever its status; only an engine that gives no
answer at all raises ClientError.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.client import ClientError
from startkit.observe.evidence import Answer

if TYPE_CHECKING:
    from startkit.client import Client, Reply


class Api:
    """One engine's API: requests as answers, documents as dicts."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def ask(self, method: str, template: str, ref: str = "", **query: Any) -> Answer:
        """Send a request; the answer names it by its template, so that ids do not differ."""
        body = query.pop("body", None)
        reply = self.client.request(method, template.replace("{id}", ref), body, **query)
        return Answer(request=f"{method} {template}", status=reply.status, body=reply.json())

    def document(self, target: str, **query: Any) -> dict[str, Any]:
        """GET a JSON object. Raises ClientError when the engine gives anything else."""
        reply = self.client.get(target, **query)
        found = reply.json()
        if reply.status != 200 or not isinstance(found, dict):
            raise ClientError(f"GET {target} on {self.client.path}: {refusal(reply)}")
        return found

    def inspect(self, ref: str) -> dict[str, Any]:
        """GET /containers/ID/json."""
        return self.document(f"/containers/{ref}/json")

    def row(self, ref: str) -> dict[str, Any]:
        """Return the container's row of `docker ps -a --no-trunc`, or {}.

        Where no row bears its id, one that is alone is what the engine says of it.
        """
        reply = self.client.get("/containers/json", all=True, filters={"id": [ref]})
        found = reply.json()
        found = found if reply.status == 200 and isinstance(found, list) else []
        rows = [row for row in found if isinstance(row, dict)]
        alone = rows[0] if len(rows) == 1 else {}
        return next((row for row in rows if row.get("Id") == ref), alone)

    def events(self, ref: str, since: float) -> list[dict[str, Any]]:
        """Return the events of one container from `since` (seconds of the epoch) till now."""
        reply = self.client.get(
            "/events",
            since=f"{since:.9f}",
            until=f"{time.time():.9f}",
            filters={"container": [ref]},
        )
        try:
            rows = [msgspec.json.decode(line) for line in reply.body.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise ClientError(f"GET /events on {self.client.path}: no JSON: {error}") from None
        return [row for row in rows if isinstance(row, dict)]

    def log_has(self, ref: str, text: str, *, timeout_s: float) -> bool:
        """Follow the log until `text` comes by; False when the log ends or time is up first."""
        wanted, seen = text.encode(), b""
        with (
            contextlib.suppress(ClientError),
            self.client.stream(
                "GET",
                f"/containers/{ref}/logs",
                timeout_s=timeout_s,
                follow=True,
                stdout=True,
                stderr=True,
            ) as answer,
        ):
            for piece in answer.pieces:
                seen += piece
                if wanted in seen:
                    return True
                seen = seen[-len(wanted) :]
        return False


def refusal(reply: Reply) -> str:
    """Return status and message of an answer that was not what it had to be."""
    return f"{reply.status} {reply.message}"[:300]
