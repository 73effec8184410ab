"""The room where TensorRT engines are made: ONNX graphs in, serialized engines out.

Empty so far. What it will meet is in place: the graphs have one symbolic batch, height and width and
carry their precision themselves; ``mst_deploy.backends`` takes one more module for running engines.
"""
