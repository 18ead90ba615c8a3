"""`lifelong tune`: which number of replicas and threads answers fastest on this machine.

layout (candidates) -> measure (starts a `worker` for each replica) -> table (stored; the settings read it)
"""
