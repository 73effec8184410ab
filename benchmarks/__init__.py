"""The room where numbers are made: a model in, timings as JSON out.

Speed is measured here and nowhere else; no test asserts it.
"""
