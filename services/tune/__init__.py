"""`lifelong tune`: measures which number of replicas and threads answers fastest on this machine.

measure (candidates; starts a `worker` for each replica) -> table (stored; the settings read it)
"""
