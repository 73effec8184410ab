"""The room where weights are made: content photographs and style images in, safetensors out.

Nothing here is needed to run a model. The only things that leave are a checkpoint (weights with their
configuration and a training summary) and the log of the run.
"""
