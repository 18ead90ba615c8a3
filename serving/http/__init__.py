"""Answers over HTTP: uvicorn in a thread, a Starlette application, and a bridge to the engine's thread.

- `listener`: opens the shared port; `connection` bounds one connection
- `app`: makes the application from its operations; `openapi` describes them
- `access`: identifies clients by API key or network address, and limits their rates
- `origin`: refuses requests that web pages of other origins make
- `requests`: reads deadlines, priorities and bounded bodies
- `problems`: renders errors in three formats, with the request's id
- `bridge`: submits events to the queue and labels to the outbox, and awaits the replies
- `api`: the endpoints for events, status and health; `schemas` converts bytes to events and outcomes to bytes
- `feedback`, `embeddings`, `cloud_events`, `v2` (the Open Inference Protocol): the other endpoints
"""
