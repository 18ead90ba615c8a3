"""Encoders of the user: torch modules that are named by their import path, in the place of the built-in family.

    config.py     the shape of a version whose encoder is such a module; the config of any version, by its family
    encoder.py    what such a class has (the protocol), and how the one of the settings is imported and checked
    inputs.py     the text of an event as the numbers that the module reads
    whole.py      the module in full precision, as slow rounds train it
    served.py     the module as it is served: in float32, or in INT8 by torchao

    settings --import--> class --a module--> WholeModule --its state, float32--> QTensors --Redis--> ModuleEncoder

Code comes from the settings of each process alone. A manifest names the import path and a digest of the source, and a
process that has another one refuses the version: nothing in a store is ever imported or unpickled.
"""
