"""Long jobs: many inputs, finished segments on disk, a journal to resume from."""
