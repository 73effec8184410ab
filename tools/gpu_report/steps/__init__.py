"""One module for each step; ``find_out(settings, record, before)`` does it."""
