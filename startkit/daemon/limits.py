"""The numbers of `docker create`: memory, processors, ulimits.

Rule: a number that the kernel would refuse at the start is refused at create, in
dockerd's own words where it has some. Memory in bytes, cpu times in microseconds.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from startkit.daemon.errors import BadParameter
from startkit.daemon.resources import check_cpus

if TYPE_CHECKING:
    from startkit.daemon.types import HostConfig

RLIMITS = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
ULIMIT_MAX = 2**63 - 1
MEMORY_MIN = 6 * 1024 * 1024


def check(host: HostConfig) -> None:
    """Check every number. Raises BadParameter."""
    if host.shm_size is not None and host.shm_size < 0:
        raise BadParameter("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise BadParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    check_memory(host)
    check_cpu_times(host)
    check_cpu_sets(host)
    check_ulimits(host)


def check_memory(host: HostConfig) -> None:
    """Check the memory limits, one by one and against each other. Raises BadParameter."""
    if 0 < host.memory < MEMORY_MIN or host.memory < 0:
        raise BadParameter("Minimum memory limit allowed is 6MB")
    if host.memory_swap < -1 or host.memory_reservation < 0:
        raise BadParameter("invalid memory limit: less than 0")
    if host.memory_swap > 0 and not host.memory:
        raise BadParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < host.memory_swap < host.memory:
        raise BadParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if 0 < host.memory < host.memory_reservation:
        raise BadParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def check_cpu_times(host: HostConfig) -> None:
    """Check `--cpus`, `--cpu-period`, `--cpu-quota` and `--cpu-shares`. Raises BadParameter."""
    cpus = os.cpu_count() or 1
    if not 0 <= host.nano_cpus <= cpus * 10**9:
        raise BadParameter(
            f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        raise BadParameter(
            "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set."
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise BadParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < host.cpu_quota < 1000:
        raise BadParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_shares < 0:
        raise BadParameter(f"invalid CPU shares: {host.cpu_shares}")


def check_cpu_sets(host: HostConfig) -> None:
    """Check `--cpuset-cpus` and `--cpuset-mems`. Raises BadParameter."""
    for key, text in (("cpus", host.cpuset_cpus), ("mems", host.cpuset_mems)):
        if text and not re.fullmatch(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", text):
            raise BadParameter(f"Invalid value {text} for cpuset {key}")
    check_cpus(host.cpuset_cpus)


def check_ulimits(host: HostConfig) -> None:
    """Check `--ulimit`. Raises BadParameter."""
    for limit in host.ulimits or []:
        if limit.name not in RLIMITS:
            raise BadParameter(f"invalid ulimit type: {limit.name}")
        if not (-1 <= limit.soft <= ULIMIT_MAX and -1 <= limit.hard <= ULIMIT_MAX):
            raise BadParameter(f"invalid ulimit value: {limit.name}={limit.soft}:{limit.hard}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise BadParameter(
                "ulimit soft limit must be less than or equal to hard limit: "
                f"{limit.soft} > {limit.hard}"
            )
