"""The sides of a comparison, each a program in a process of its own: what others would do, and ours beside it.

engine.py     serves one encoder of engines.py over pipes; runner.py is the other end; race.py times them in turns
workloads.py  the batches; rectangles.py tries how a padded encoder takes them fastest; padded.py is its model
torch_peers.py, onnx_peers.py, openvino_peers.py, ours.py    the encoders; cache.py stores exported models
summary.py    the table of a race
kafka_fp32.py, learner_speed.py, ours_pack.py, precisions.py    programs that print one JSON line
"""
