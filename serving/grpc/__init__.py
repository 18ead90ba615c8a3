"""The Open Inference Protocol in gRPC: a listener in the replica, over the same queue as HTTP.

`inference.proto` is the protocol, as its specification has it; `proto` makes messages of it at the start, `service`
answers its methods and those of health. `listener` opens the shared port, by TLS if there are `certificates`, and
bounds the connections of one address.
"""
