"""What goes wrong in the daemon, as the API tells it: a status and one line.

Rule: `raise` one of these anywhere below a route; `http` turns it into
`{"message": ...}`. Messages use dockerd's own wording where clients parse it. They are
one line whatever they quote: a control character stands as its escape.
"""

from __future__ import annotations


class ApiError(Exception):
    """An answer that is not the one asked for. `status` is the HTTP status."""

    status = 500

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


class NotModified(ApiError):
    """304: it is already so."""

    status = 304


class BadParameter(ApiError):
    """400: the request is wrong; the message names the field."""

    status = 400


class NotFound(ApiError):
    """404: no such container, image or page."""

    status = 404


class Conflict(ApiError):
    """409: a name in use, or a state that does not allow it."""

    status = 409


class ServerError(ApiError):
    """500: the engine or the machine failed."""

    status = 500


class ShuttingDown(ApiError):
    """503: the daemon ends."""

    status = 503


class NotSupported(ApiError):
    """501: Docker can do it, startkit leaves it out; the message names it."""

    status = 501
