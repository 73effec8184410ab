"""Export: weights in, a verified model bundle of ONNX graphs out.

Both graphs are traced from ``mst_deploy.model.io_wrappers``, checked against PyTorch in ONNX Runtime, and
only then moved to their final name together with a manifest.
"""
