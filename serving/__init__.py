"""Answers events: batches them, runs the model, and takes new weights between two batches.

    Kafka -> kafka/ --.                                              .--> kafka/ (outbox) -> Kafka
                       >-- pipeline -> queue -> engine -> predict --<
    HTTP  -> http/  --|                            ^                 |--> http/ -> client
    gRPC  -> grpc/  --'               weights/ -> models             '--> grpc/ -> client

`app` is the deployment on Ray Serve, `cluster` the Ray below it and what notices that either is gone, `scaling` says
how many replicas there should be. `replica` assembles one process, and `served_task` one task of it: its versions, its
labels and its reports. `endpoints` opens the ways in beside Kafka, each by its name, and `pipeline` is what all of them
share. `queue` cuts batches, `engine` answers them and tells what fails apart, `models` has the versions that are live
and the choice of their precisions. `predict` makes answers, `encodings` the vectors for it, and `ranking` says what a
version names, one class or a set of them. `observers` watch the batches, and `deaths` finds the events and versions
that kill a process.

Parts that can be left out: the enrichers of inputs give events what they take over from earlier ones, `refusal` gives
the fallback label if a version is not certain enough, `filters` let some answers ask for a label and make the spans of
answers, and `v2` is the protocol that REST and gRPC share. What is off does not run for an event. `config` has the
settings, `replica_config` those of all sections and tasks, and `errors` what goes wrong.

Other rooms may import `app.run`, `config`, `replica_config` and `cluster` (`RayLost`), and the port check of
`http.listener`; tests of other rooms also use `replica` and `weights.loader`.
"""
