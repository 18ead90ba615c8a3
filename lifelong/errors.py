"""The exceptions of the clients. This module imports no library, so it loads fast.

ClientError
  ServiceUnavailable   no response, or a temporary refusal (408, 429, 502, 503, 504), until the deadline
  RequestInvalid       400, 413, 422: the request is invalid, and a retry would fail, too
  NotAuthorized        401, 403: the API key is missing, unknown, or lacks the role
  UnknownAnswer        a label for an event whose receipt the client does not have
"""


class ClientError(Exception):
    """The base of all errors of `lifelong.Client` and `AsyncClient`.

    - `code`: a stable name of the problem, the last part of its `type`, `urn:lifelong:problem:CODE`
    - `status`: the HTTP status; None if there was no response, or if a single event of the request failed
    - `request_id`: the id of the request in the log of the service
    - `retry_after_s`: how long the service asks clients to wait before a retry
    """

    def __init__(
        self, message: str, *, code: str, status: int | None = None, request_id: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ServiceUnavailable(ClientError):
    """The service is unreachable or cannot answer now. The same request may succeed later."""


class RequestInvalid(ClientError):
    """The event, the label or the whole request is invalid. A retry of the same request would fail, too."""


class NotAuthorized(ClientError):
    """The API key is missing, unknown, or lacks the role that the request needs."""


class UnknownAnswer(ClientError):
    """The client has no receipt for the event, or no longer has it. Pass the answer instead of the event's id."""
