"""The local stack: every program of a service on one machine, and its servers where the settings name none.

    stack -> servers (redis, kafka), supervisor (restarts what ends) -> children (end with us) -> logfile (rotated log)

The servers listen on this machine only and end with their starter. `folders` makes private folders and locks.
"""
