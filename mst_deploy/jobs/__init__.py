"""Long jobs: many inputs, closed parts on disk, a journal to go on from."""
