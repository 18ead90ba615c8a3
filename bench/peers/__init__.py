"""The sides of a comparison, each a program in a process of its own: what others would do, and ours beside it.

engine.py     serves one encoder of engines.py over pipes; runner.py is the other end
field.py      starts and prepares the encoders of a race; race.py times them in turns
workloads.py  the batches; rectangles.py tries how a padded encoder takes them fastest, choices.py remembers it
cache.py      stores their model (model.convert.plain) as exported, calibration.py has the texts of static quantization
torch_peers.py, onnx_peers.py, openvino_peers.py, ours.py    the encoders
summary.py    the table of a race
http_servers.py, http/    servers of others for the same model, each in an environment of its own
programs that print one JSON line: kafka_loop.py, kernel_speed.py, learner_speed.py, head_speed.py, ours_pack.py,
    precisions.py, span_speed.py, encode_rate.py
"""
