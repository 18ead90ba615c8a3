"""What crosses a process boundary: records, Kafka, Redis. Imports nothing of ours, no torch, no ray."""
