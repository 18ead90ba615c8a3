"""What all cases are measured by: one register, one command, and what cases have in common.

    case.py      a Case, with its bars if the ledger has it; a Run of it  cases.py    CASES, all that is measured
    calls.py     calls a case and keeps what a seed has measured           ledger.py   docs/ledger.md, made of the lines
    service.py   a running service       texts.py   what is measured on      machine.py   where it is measured
    timing.py    how long work takes
    process.py   one command at a time; programs that measure in a process of their own      settings.py   of a service

Case.measure(Run) --> rows (evals/results/) --> terminal, build/bench/results.jsonl --make figures--> docs
"""
