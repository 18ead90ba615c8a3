"""Answers events by HTTP: uvicorn in a thread, a Starlette application, and a bridge to the engine's thread.

`listener` opens the shared port, `connection` bounds one connection, `api` has the endpoints, `bodies` bounds request
bodies, `schemas` converts bytes to events and outcomes to bytes, `clients` names clients, each of which has a
token bucket, `request_id` gives every request an id, and `bridge` submits events to the queue and awaits the replies.
"""
