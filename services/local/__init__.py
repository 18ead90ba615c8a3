"""The local stack: every program of a service on one machine, and Redis and a broker if the settings name none.

    stack -> servers (redis, kafka), supervisor (restarts programs) -> children (end with us) -> logfile (rotated log)

The servers listen only on this machine and end with the process that started them. `folders` makes private folders and
locks.
"""
