"""An OCI runtime with runc's command line: from a bundle to a running program.

    cli         the command line                 bundle, shape   config.json, checked
    create      the runtime's side, step by step init            the container's side
    lifecycle   start, kill, delete              foreground      run
    commands    ps, pause, update, events        enter           exec
    spec        spec, features                   counters        what events show
    namespaces  rootfs  mounts  paths  devices  console  cgroup  resources  caps  process  hooks
    state       what is known of a container     text            JSON, errors, the log

Rule: standard library only, and of that as little as can be: each run is a new process,
and its imports are a third of its time. Source: OCI runtime-spec 1.0.2, runc(8).
"""
