"""Evaluation of image quality: sets of (photograph, artwork, result) in, distances with intervals out.

``sets`` reads and writes the sets, ``nets`` holds the networks, ``metrics`` the formulas, ``measure``
evaluates a set, ``report`` writes the results. ``video`` measures flicker, ``optimum`` makes the slow
reference, ``systems`` runs a model over a set.
"""
