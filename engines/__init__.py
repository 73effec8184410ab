"""The room where TensorRT engines are made: a bundle's generator in, a verified engine in the cache out.

``graph`` makes the ONNX graph one that every supported TensorRT takes, ``build`` turns it into a plan,
``verify`` runs the plan against ONNX Runtime before it may be cached, ``layers`` says what is inside.
Engines are run by ``mst_deploy.backends.trt.runner``.
"""
