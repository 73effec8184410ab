"""``python -m mst_deploy`` is ``mst``."""

from mst_deploy.cli import main

main()
