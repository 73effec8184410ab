"""Batches: many videos, or one long one, on several processes or machines.

    run ─> schedule (pure) ─> workers: processes | cluster ─> worker ─> scan, paint, join ─> storage

``run`` is the driver. It hands tasks of ``schedule`` to workers and collects what they report; results and
everything unfinished are in the storage, so that a batch that is started again goes on where it was.
"""
