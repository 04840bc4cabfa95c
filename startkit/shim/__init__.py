"""The shim: one small process a container, between containerd and the runtime.

    __main__   the front door: title, and where the project lies
    shim       the life of one container, as named steps
    runtime    runc's command line, forked or exec'd
    fifos      who holds which end of which named pipe
    streams    bytes from one descriptor to another, none lost
    stdio      the container's ends without a terminal: pipes
    console    and with one: its socket, size, end of file
    reap       children of a subreaper, and what they died of
    lines      JSON without the json module: process.json, log.json, the report

Rule: standard library only, one thread, one loop. A shim is started for every
container, so its imports are counted: the C half of a module (`_json`, `_signal`,
`_socket`) where its Python half would bring `re` and `enum` along. That is 13 ms
until the first step instead of 22, and 1.5 MB less for as long as the container lives.
Source: era 1, 5, 6.
"""
