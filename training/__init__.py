"""Training: content photographs and style images in, safetensors weights out.

Nothing here is needed to run a model. The only outputs are a checkpoint (weights with their configuration and
a training summary) and the log of the run.
"""
