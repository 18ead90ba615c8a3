"""The page of a running service, and the same in the terminal: what its reports say, and what an operator may do.

    Operator.status, history (the store) --state--> PageState --app--> every reader of /api/stream
    a click --app--> operations --> the rollout, the topics, /v1/predict; audit.v1

config       its settings                       state     reads the reports once a second: figures, curves, tables
tables       the tables, from the reports       rates     answers a second and latencies, from two reports
operations   what a button does                 app       the endpoints, who may ask and who may change something, and
                                                          the files of static/ and templates/
server       serves it while a stack runs       terminal  `lifelong top`
"""
