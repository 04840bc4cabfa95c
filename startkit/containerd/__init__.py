"""containerd: dockerd's child, and the parent of one shim a container.

    service    the gRPC service types.API
    create     CreateContainer, as named steps
    container  one container: its state directory, its two pipes, its signals
    state      what lies in a state directory, read and written
    monitor    waits for `exit` to end, cleans up, finds containers again after a restart
    shims      starts shims and hears their report
    events     start-container and exit, stored and streamed

Rule: containerd holds nothing that its directory does not: kill it, start it again,
and it goes on. It never forks a copy of itself and has one thread.
Source: containerd 0.2; era 1 and 6.
"""
