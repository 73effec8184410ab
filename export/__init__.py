"""The room where ONNX graphs are made: weights in, a verified model bundle out.

Both graphs are traced from ``mst_deploy.model.io_wrappers``, checked against PyTorch in ONNX Runtime, and
only then put under their final name together with a manifest.
"""
