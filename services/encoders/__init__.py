"""`lifelong encoder check`: is an encoder computed as it was published, and what do INT8 and INT4 cost and give here?

module_check: the same of a class of the user
vectors (what another library computed, in a file) -> check (load, compare, round, time)
"""
