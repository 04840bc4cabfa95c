"""A runtime watched at its own command line, without any engine above it."""
