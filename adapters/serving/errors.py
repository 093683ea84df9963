"""Errors of a request as HTTP statuses, and the error object of each dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import (
    AdapterError,
    AdapterkitError,
    DataError,
    HubError,
    OptionError,
    PoolError,
    PoolMemoryError,
    RegistryError,
    TaskError,
)

OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class RequestError(AdapterkitError):
    """A request that is refused, with its HTTP status and further headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error.

    A row that can't be read is 422, an invalid option 400, an adapter whose files can't be used, or that memory has no
    room for, 503.
    """
    if isinstance(error, RequestError):
        return error.status
    statuses: list[tuple[type[BaseException], int]] = [
        (DataError, 422),
        (TaskError, 422),
        (OptionError, 400),
        (PoolMemoryError, 503),
        (PoolError, 400),
        (AdapterError, 503),
        (HubError, 503),
        (RegistryError, 503),
    ]
    return next((status for kind, status in statuses if isinstance(error, kind)), 500)


def message_of(error: BaseException) -> str:
    """Return the text of an error for a client; of an unexpected one, not its details."""
    return str(error) if isinstance(error, AdapterkitError) else "internal error; the log has it under the request id"


def error_object(path: str, status: int, message: str) -> dict[str, Any]:
    """Return the error object of the dialect of a path: openai's below /v1 and of vLLM's routes, else huggingface's."""
    if path.startswith("/v1/") or path == "/classify":
        kind = OPENAI_TYPES.get(status, "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}
    return {"error": message}
