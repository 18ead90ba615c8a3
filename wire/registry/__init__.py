"""Messages whose schema lies in a registry (Confluent's wire format): Avro, and JSON with a JSON Schema, as objects.

    0x00, id of the schema (4 bytes), payload --Schemas.of(id), kept--> fastavro, or JSON --> the object that maps read

`config` has the settings, `client` asks the registry, `decoding` reads messages. Answers are sent as JSON, as ever.

Rejected: confluent-kafka[schemaregistry] (a second client of Kafka in C, and six further libraries, for two requests),
validation by JSON Schema (whoever sent the message did it; a field that is missing is told by its map), and Protobuf
(its messages are of generated classes).
"""
