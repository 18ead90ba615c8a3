"""The page of a running service, and the same in the terminal: what its reports say, and what an operator may do.

    Operator.status, history (the store) --state--> PageState --latest--> every reader of /api/stream
    a click --app (access)--> operations --> the rollout, the topics, /v1/predict; audit.v1

config       its settings                       state     reads the reports once a second: figures, curves, tables
tables       the tables, from the reports       rates     answers a second and latencies, from two reports
latest       hands the newest state to readers  access    who may ask, and who may change something
operations   what a button does                 app       the endpoints, and the files of static/ and templates/
server       serves it while a stack runs       terminal  `lifelong top`
"""
