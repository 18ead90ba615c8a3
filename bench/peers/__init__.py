"""The sides of a comparison, each in a process of its own: encoders, servers and loops of others, and our encoder.

engines.py    lists the encoders by name, and serves one of them over pipes
field.py      starts and prepares the encoders of a race; race.py times them in turns, and prints the table
workloads.py  the batches; rectangles.py finds the fastest settings of a padded encoder for a batch, and stores them
exported.py   stores exported models (lifelong.compress.plain), and provides calibration texts
torch_peers.py, onnx_peers.py, openvino_peers.py, ours.py    the encoders
http_servers.py, http_apps.py    other servers with the same model, each in an environment of its own
kafka_loop.py    a hand-written loop over Kafka
"""
