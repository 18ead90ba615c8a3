"""What can go wrong between a client and the service. It needs no library, so that it is imported at once.

ClientError
  ServiceUnavailable   nobody answered, or could now (429, 502, 503, 504): it was tried until the deadline
  RequestInvalid       400, 413, 422: the request is wrong, and stays so
  NotAuthorized        401, 403: no API key, or one without the role
  UnknownAnswer        a label for an event whose answer the client does not hold
"""


class ClientError(Exception):
    """The base of all errors of `lifelong.Client` and `AsyncClient`.

    `code` is stable and names the problem: the last part of its `type`, `urn:lifelong:problem:CODE`. `status` is that
    of HTTP; None where there was no response, or the problem is that of one event among others. `request_id` is the
    name of the request in the log of the service. `retry_after_s` is how long the service wants to be left alone.
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
    """The service cannot be reached, or not answer now. The same request may succeed later."""


class RequestInvalid(ClientError):
    """The event, the label or the whole request is refused, whenever it is sent."""


class NotAuthorized(ClientError):
    """The API key is missing, unknown, or has not the role that this needs."""


class UnknownAnswer(ClientError):
    """The client does not hold the receipt of this event's answer (any more): give it the answer itself."""
