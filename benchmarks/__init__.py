"""The room where numbers are made: a model in, figures as JSON out. Speed here, looks in ``quality``.

Speed is measured here and nowhere else; no test asserts it.
"""
