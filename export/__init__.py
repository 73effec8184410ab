"""The room where ONNX graphs are made: weights in, a verified model bundle out.

Both graphs are traced from ``mst_deploy.graphs``, checked against PyTorch in ONNX Runtime, and only
then put under their final name together with a manifest.
"""
