"""The Open Inference Protocol over gRPC: a listener in the replica, whose events go into the same queue as HTTP's.

- `inference.proto`: the protocol, as in its specification
- `proto`: makes message classes from it at the start
- `service`: answers its methods, and gRPC's health checks
- `listener`: opens the shared port, with TLS if there are `certificates`, and bounds the connections of each address
"""
