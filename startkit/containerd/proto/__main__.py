"""Writes api_pb2.py and api_grpc.py from api.proto; needs grpcio-tools, which the engine does not.

`python -m startkit.containerd.proto [DIRECTORY]`: into DIRECTORY/startkit/containerd/proto,
by default where they belong.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROTO = "startkit/containerd/proto/api.proto"


def generate(target: Path) -> int:
    """Run protoc, and grpclib's plugin from beside this interpreter; return its exit code."""
    import grpc_tools
    from grpc_tools import protoc

    plugin = Path(sys.executable).parent / "protoc-gen-grpclib_python"
    code: int = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            f"--plugin=protoc-gen-grpclib_python={plugin}",
            f"--python_out={target}",
            f"--grpclib_python_out={target}",
            PROTO,
        ]
    )
    return code


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if sys.argv[1:] else ROOT))
