"""Local servers, for settings that name none: they listen on this machine only and end with their starter.

    redis, kafka (the servers) -> tether (a child that ends with us) -> logfile (its rotated log)

`aof` repairs Redis' append-only files, `folders` makes private folders and locks, `subreaper` ends all descendants of
a program.
"""
