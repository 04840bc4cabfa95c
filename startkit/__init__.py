"""What happens behind `docker start`, executable.

The story, in the article's order, and the room that tells it:

    docker CLI --HTTP--> daemon      rootfs, files, config.json, FIFOs
               --gRPC--> containerd  state directory, one shim a container
               --exec--> shim        holds the IO, reaps, records the exit status
               --fork--> runtime     namespaces, mounts, cgroups, then the user's program

Beside the engine stands its judge: `targets` start something to judge, `observe`
looks at it from outside, `judge` compares with `golden/`, `report` tells.

Rule: no room of the engine imports the judge, `observe` and `judge` import no
engine, and `kernel`, `steps`, `shim` and `runtime` use the standard library only.
This file is imported by all of them, so it imports nothing.
"""

__version__ = "0.1.0"
