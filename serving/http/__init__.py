"""Answers over HTTP: uvicorn in a thread, a Starlette application, and a bridge to the engine's thread.

`listener` opens the shared port, `connection` bounds one connection, and `app` makes the application of its operations.
`access` says who asks, by the API keys of a file or by network, and has a token bucket for each; `origin` says where a
request comes from, and tells those that pages of others make. `requests` reads deadline, priority and bounded bodies,
and `problems` says what is wrong, in three forms, with the id of the request. The endpoints: `api` (events, status,
health), whose `schemas` convert bytes to events and outcomes to bytes; `feedback`, `embeddings`, `cloud_events`, and
`v2`, the Open Inference Protocol. `bridge` submits events to the queue, and labels to the outbox, and awaits the
replies. `openapi` describes all of it.
"""
