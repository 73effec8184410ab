"""Benchmarks: measure a model and write the figures as JSON. Speed is measured here, image quality in
``quality``.

Speed is measured nowhere else; no test asserts it.
"""
