"""TensorRT engines: a bundle's generator in, a verified engine in the cache out.

``onnx_passes.trt`` adapts the ONNX graph to every supported TensorRT, ``build`` turns it into a plan,
``verify`` compares the plan with ONNX Runtime before it may be cached, ``layers`` inspects it. Engines are
run by ``mst_deploy.backends.trt.runner``.
"""
