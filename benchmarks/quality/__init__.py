"""How good the pictures are: sets of (photograph, artwork, result) in, distances with intervals out.

``sets`` says what belongs together, ``nets`` what looks at the pictures, ``metrics`` holds the formulas,
``measure`` walks through a set, ``report`` writes what was found. ``video`` measures flicker, ``gatys``
makes the slow reference, ``systems`` runs a model over a set.
"""
