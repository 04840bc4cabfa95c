"""What can be judged: recipes that start an engine, and the ways to get at evidence.

A new target is a TOML file beside this one; code only for what cannot be data.
Rule: a target is started by its command line and found by its socket. No engine is
imported here.
"""
