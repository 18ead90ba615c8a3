"""Answers events: batches them, runs the model, and takes new weights between two batches.

    Kafka -> kafka/ --.                                              .--> kafka/ (outbox) -> Kafka
                       >-- pipeline -> queue -> engine -> predict --<
    HTTP  -> http/  --|                            ^                 |--> http/ -> client
    gRPC  -> grpc/  --'               weights/ -> models             '--> grpc/ -> client

- `app`: the deployment on Ray Serve
- `cluster`: starts Ray, and notices if Ray or Serve is gone
- `scaling`: computes the number of replicas (autoscaling)
- `replica`: assembles one process; `served_task` one task of it: versions, labels, reports
- `endpoints`: opens HTTP and gRPC by name; `pipeline` has the parts that Kafka and the endpoints share
- `queue`: cuts batches; `engine` answers them, and finds the cause of a failure
- `models`: the live versions, and the choice of their precisions
- `predict`: makes answers from the vectors of `encodings` and the predictions of `ranking`
- `observers`: measure the batches; `deaths` finds the events and versions that kill a process
- `config`: the settings of this room; `replica_config` the settings of all sections and tasks
- `errors`: the errors of a replica

Optional parts run only if their settings are on: `refusal` replaces an uncertain answer by the fallback label,
`filters` mark answers that ask for a label and record trace spans, and enrichers of inputs add values of earlier
events. `v2` has the Open Inference Protocol for REST and gRPC.

Other rooms may import `app.run`, `config`, `replica_config` and `cluster` (`RayLost`), and the port check of
`http.listener`; tests of other rooms also use `replica` and `weights.loader`.
"""
