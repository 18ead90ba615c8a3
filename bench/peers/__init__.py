"""The sides of a comparison, each a program in a process of its own: what others would do, and ours beside it.

engines.py    the encoders by name; serves one of them over pipes
field.py      starts and prepares the encoders of a race; race.py times them in turns, and shows the table
workloads.py  the batches; rectangles.py tries how a padded encoder takes them fastest, and remembers it
exported.py   stores their model (lifelong.compress.plain) as exported, and has the texts of static quantization
torch_peers.py, onnx_peers.py, openvino_peers.py, ours.py    the encoders
http_servers.py, http_apps.py    servers of others for the same model, each in an environment of its own
kafka_loop.py    a program that prints one JSON line
"""
