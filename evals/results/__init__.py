"""Defines what is published: rows of numbers with their goals, baselines and surroundings.

    row.py           a number of several calls, its goal, and its peers
    rows.py          the rows of several calls: collected, shown, recorded as lines of JSON with machine and commit
    conditions.py    what else ran on the machine before, during and after each call
    tables.py        the tables of the documents, made of lines

`bench/` measures the service, the kernels and the techniques, and publishes by these.
"""
