"""Looks at an engine and its containers from outside, and writes down what it sees.

One source a file: `api` the socket, `procfs` processes and mounts, `disk` files,
`config` the bundle, `fifos` the named pipes, `cgroups`. `look` puts one moment
together, `collect` a container's whole life, `view` is how a test reads it.

Rule: only the API socket, /proc and the file system are looked at. What an engine
does not show is `missing`, with the reason; nothing is judged here.
"""
