"""The page of a running service, and the same view in a terminal: reports of the programs, and actions of operators.

    Operator.status, history (the store) --state--> PageState --app--> every reader of /api/stream
    a click --app--> operations --> the rollout, the topics, /v1/predict; audit.v1

config       the settings of the page           state     reads the reports once a second: figures, curves, tables
tables       the tables, from the reports       rates     answers per second and latencies, from two reports
operations   the actions of the buttons         app       the endpoints, the access rules, and the files of static/
                                                          and templates/
server       serves it while a stack runs       terminal  `lifelong top`
"""
