"""mst: multi-style video rendering. Importing the package loads no framework."""

__version__ = "0.1.0"
