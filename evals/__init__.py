"""Measures the learner and the service; production code imports nothing from here.

    streams/      the data sets: texts, images and tables, cut into stages
    continual/    strategies side by side on a data set, without a service (`lifelong bench learn`)
    results/      published results: rows of numbers with goals and baselines (`bench/`)
    load/         a stream played on a running service, and the figures of that run (`lifelong demo`, `bench/`)

    streams --> continual --> RunOutcome                  streams --> load --> Figures

`services/bench`, `services/demo` and `bench/` are the callers. They load a stream by name, call `play` or a `Method`,
and show the result. The subject of a measurement is always an argument: a bus and a store, or a contender. No module
here starts a process or loads settings.
"""
