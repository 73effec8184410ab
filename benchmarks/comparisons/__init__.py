"""Comparisons with other ways to do the same work; no other part of the package imports this one."""
