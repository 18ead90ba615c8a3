"""Answers over HTTP: uvicorn in a thread, a Starlette application, and a bridge to the engine's thread.

`listener` opens the shared port, `connection` bounds one connection, `app` makes the application of the `operations`,
and `request_id` gives every request an id. `access` says who asks, by the API keys of a file (`keys`) or by its network
(`clients`), and has a token bucket for each; `origin` tells requests that pages of others make; `asks` reads deadline
and priority, `bodies` bounds request bodies, and
`problems` says what is wrong, in three forms. The endpoints: `api` (events, status, health), whose `schemas` convert
bytes to events and outcomes to bytes; `feedback`, `embeddings`, `cloud_events`, and `v2`, the Open Inference Protocol.
`bridge` submits events to the queue, and labels to the outbox, and awaits the replies. `openapi` describes all of it.
"""
