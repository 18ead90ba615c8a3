"""Answers events: batches them, runs the model, and takes new weights between two batches.

    Kafka -> kafka/ --.                                  .--> kafka/ (outbox) -> Kafka
                       >-- batcher -> engine -> predict -<
    HTTP  -> http/  --|                 ^                |--> http/ -> client
    gRPC  -> grpc/  --'                 '-- weights/     '--> grpc/ -> client

`app` is the deployment on Ray Serve, `cluster` the Ray below it, `serve_watch` notices when either is gone, and
`ray_folder` holds Ray's state folder. `replica` assembles one process; `pipeline` is what both ways in share. `ranking`
says what a version names, one class or a set of them. `terms` says on which terms an event is answered, `embedding`
makes vectors for those who ask for no label, and `v2` is the protocol that REST and gRPC share. `answer_traces` makes
the spans of answers. `series` (`series_config`) gives events what they take over from those of their key before.
`audit` lets some answers ask for a label, and `refusal` (`refusal_config`) gives the fallback label where a version is
not certain enough; `label_watch` knows the set of labels. `event_rate` says how many events come, `swap_stalls` what a
swap of weights costs, `service_level` whether promises are kept, `watchdog` whether the model hangs; `deaths` and
`open_notes` find the events and versions that kill a process. `ray_metrics` is what Ray is told; `counts`, `status` and
`errors` are what a replica reports; `config` has the settings, those of the model's thread in `engine_config`, those of
tasks in `task_config`, and `replica_config` all that a replica is given. `served_task` is one task of a replica: its
versions, its labels and its reports.

Other rooms may import `app.run`, `config`, `replica_config`, `task_config`, `cluster` and `serve_watch` (`RayLost`),
and the port check of `http.listener`; tests of other rooms also use `replica` and `weights.loader`.
"""
