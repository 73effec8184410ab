"""One command that measures everything on a GPU: ``python -m tools.gpu_report --minutes 5 -o OUT``.

Each step runs in a process of its own with a time limit of its own. Its results are in ``OUT/STEP.json``
whenever a measurement ends, and in ``OUT/report.json`` when the step does, so that one that crashes or runs
out of time loses only the measurement that was under way. A step that cannot run records the reason, and the
next one begins.
"""

import time

STARTED = time.monotonic()
"""Importing counts as well."""
