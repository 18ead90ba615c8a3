"""The published results: rows of numbers with goals, baselines, the machine, and its load.

    row.py           one measured quantity over several calls, its goal, and its peers
    rows.py          collects the rows of several calls, prints them, and records them as JSON lines
    conditions.py    the load of other processes on the machine before, during and after each call
    tables.py        the tables in the documents, made from JSON lines

`bench/` measures the service, the kernels and the techniques, and publishes the results with this package. A call is
one run of a benchmark. A peer is a competing implementation that is measured in the same call.
"""
