"""The harness that measures all cases: one register, one command, and the code that cases share.

    case.py      Case, with its bars if it belongs to the ledger; Run, one call of a case
    cases.py     CASES, the register of all cases
    calls.py     measures a case once, and keeps the rows that a seed has measured
    ledger.py    writes docs/ledger.md from stored lines
    service.py   a running service; settings.py loads its settings
    texts.py     the texts that cases measure on
    machine.py   describes the machine
    timing.py    times a function
    process.py   runs one benchmark at a time, and one side of a comparison in a process of its own

Case.measure(Run) --> rows (evals/results/) --> terminal, build/bench/results.jsonl --make figures--> docs
"""
