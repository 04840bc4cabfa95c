"""The body of `docker create`: used, known to change nothing, or refused by name."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import options
from startkit.daemon.errors import BadParameter, NotSupported
from startkit.daemon.options import no_new_privileges_of, signal_number, split_bind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [
    "Hostname", "Env", "Cmd", "Tty", "Labels", "User", "WorkingDir", "Binds", "Tmpfs", "Memory",
    "NanoCpus", "Ulimits", "Devices", "CapAdd", "ExtraHosts", "Dns", "Sysctls", "ShmSize",
    "PidMode", "RestartPolicy", "LogConfig", "EndpointsConfig", "StopSignal", "CpusetCpus",
    "SecurityOpt",
]  # fmt: skip
BODIES = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)


def parse(host=None, **config):
    return options.parse(json.dumps({"Image": "base", **config, "HostConfig": host}).encode())


def refused(kind, host=None, **config):
    """Return the message with which a body is refused."""
    with pytest.raises(kind) as caught:
        parse(host, **config)
    return caught.value.message


def test_an_empty_body_is_taken_here():
    config, host = options.parse(b"{}")
    assert (config.image, host.network_mode) == ("", "")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'"x"', b"\xff"])
def test_what_is_no_object_is_a_bad_request(body):
    with pytest.raises(BadParameter, match="invalid JSON"):
        options.parse(body)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"Tty": "yes"}, "$.Tty"),
        ({"Env": [1]}, "$.Env[0]"),
        ({"HostConfig": {"Memory": "64m"}}, "$.Memory"),
        ({"HostConfig": [1]}, "object"),
        ({"HostConfig": {"Ulimits": [{"Name": "nofile"}]}}, "Soft"),
        ({"NetworkingConfig": 1}, "$.NetworkingConfig"),
        ({"NetworkingConfig": {"EndpointsConfig": [1]}}, "$.NetworkingConfig.EndpointsConfig"),
        ({"NetworkingConfig": {"EndpointsConfig": {"a": True}}}, "EndpointsConfig.a"),
    ],
)
def test_a_wrong_type_is_refused_with_the_fields_name(body, path):
    with pytest.raises(BadParameter) as caught:
        options.parse(json.dumps(body).encode())
    assert path in caught.value.message


@given(BODIES, BODIES, BODIES)
def test_every_body_is_taken_or_refused_as_bad_or_unsupported(config, host, networking):
    body = config | {"HostConfig": host, "NetworkingConfig": networking}
    with contextlib.suppress(BadParameter, NotSupported):
        options.parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Volumes", {"/data": {}}),
        ("Healthcheck", {"Test": ["CMD", "true"]}),
        ("MacAddress", "02:42:ac:11:00:02"),
        ("NetworkDisabled", True),
    ],
)
def test_an_option_that_is_not_here_is_refused_by_its_name(key, value):
    assert key in refused(NotSupported, **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BlkioWeight", 10),
        ("Links", ["other"]),
        ("Mounts", [{"Type": "bind"}]),
        ("PortBindings", {"80/tcp": []}),
        ("OomKillDisable", True),
        ("VolumesFrom", ["x"]),
        ("UsernsMode", "private"),
        ("NetworkMode", "container:x"),
        ("IpcMode", "none"),
        ("RestartPolicy", {"Name": "always"}),
        ("LogConfig", {"Type": "syslog"}),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
        ("Binds", ["named:/data"]),
        ("Binds", ["/a:/b:z"]),
        ("SecurityOpt", ["apparmor=docker-default"]),
    ],
)
def test_a_host_option_that_is_not_here_is_refused_by_its_name(key, value):
    message = refused(NotSupported, {key: value})
    assert key in message or value[0] in message


def test_an_endpoint_with_an_address_is_refused_by_its_name():
    networking = {"EndpointsConfig": {"none": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}}
    assert "none.IPAMConfig" in refused(NotSupported, NetworkingConfig=networking)


def test_what_a_client_sends_for_options_not_given_is_taken():
    host = {"MemorySwappiness": -1, "BlkioWeight": 0, "Links": None, "ConsoleSize": [0, 0],
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "", "Config": {}},
            "PortBindings": {}, "OomKillDisable": False}  # fmt: skip
    parse(host, OnBuild=None, Volumes={}, NetworkingConfig={"EndpointsConfig": {}})


@pytest.mark.parametrize("name", ["a", "a.b", "A-1", "x" * 63, "a_b"])
def test_a_host_name_is_taken(name):
    assert parse(Hostname=name)[0].hostname == name


@pytest.mark.parametrize("name", ["x" * 64, "a b", "-a", "a-", "a..b", "\u00e9", "a\n", ".", "a/b"])
@pytest.mark.parametrize("key", ["Hostname", "Domainname"])
def test_an_odd_or_long_host_name_is_refused(key, name):
    assert key.lower() in refused(BadParameter, **{key: name})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Hostname": "a", "HostConfig": {"UTSMode": "host"}}, "conflicting options"),
        ({"WorkingDir": "here"}, "needs to be an absolute path"),
        ({"Env": [""]}, "environment variable"),
        ({"Env": ["=x"]}, "environment variable"),
        ({"Env": ["A=\0"]}, "environment variable"),
        ({"StopSignal": "SIGNOPE"}, "Invalid signal: SIGNOPE"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(config, message):
    with pytest.raises(BadParameter, match=message):
        options.parse(json.dumps(config).encode())


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Dns": ["localhost"]}, "invalid IP address in HostConfig.Dns"),
        ({"ExtraHosts": ["a"]}, "bad format for add-host"),
        ({"ExtraHosts": [":1.2.3.4"]}, "bad format for add-host"),
        ({"ExtraHosts": ["a:b"]}, "invalid IP address in HostConfig.ExtraHosts"),
        ({"ExtraHosts": ["a\n6.6.6.6 b:1.2.3.4"]}, "invalid DNS setting"),
        ({"DnsSearch": ["a\nnameserver 6.6.6.6"]}, "invalid DNS setting"),
        ({"DnsOptions": ["a\nb"]}, "invalid DNS setting"),
        ({"SecurityOpt": ["bogus"]}, "invalid --security-opt"),
        ({"CapAdd": ["NOPE"]}, 'unknown capability: "CAP_NOPE"'),
        ({"CapDrop": ["cap_nope"]}, 'unknown capability: "CAP_NOPE"'),
        ({"Devices": [{"PathOnHost": "/d", "CgroupPermissions": "x"}]}, "invalid device mode"),
        ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
        ({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}, "Duplicate mount point: /b"),
        ({"Tmpfs": {"here": ""}}, "not an absolute path"),
        ({"ShmSize": -1}, "SHM size"),
        ({"Memory": 1024}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 1 << 26, "MemorySwap": 1 << 25}, "memoryswap limit should be larger"),
        ({"MemorySwap": 1 << 26}, "should always set the Memory limit"),
        ({"Memory": 1 << 26, "MemoryReservation": 1 << 27}, "less than memory reservation"),
        ({"MemoryReservation": -1}, "less than 0"),
        ({"NanoCpus": 10**15}, "Range of CPUs is from 0.01"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Conflicting options: Nano CPUs"),
        ({"CpuQuota": 999}, "CPU cfs quota"),
        ({"CpuPeriod": 999}, "CPU cfs period"),
        ({"CpuPeriod": 1000001}, "CPU cfs period"),
        ({"CpuShares": -1}, "CPU shares"),
        ({"CpusetCpus": "0-"}, "Invalid value 0- for cpuset cpus"),
        ({"CpusetMems": "a"}, "Invalid value a for cpuset mems"),
        ({"CpusetCpus": "0-9999"}, "Requested CPUs are not available - requested 0-9999"),
        ({"OomScoreAdj": 1001}, "range for oom score adj"),
        ({"Ulimits": [{"Name": "bogus", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: bogus"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "soft limit must be less"),
        ({"Ulimits": [{"Name": "nofile", "Soft": -1, "Hard": 1}]}, "soft limit must be less"),
        ({"Ulimits": [{"Name": "nofile", "Soft": -2, "Hard": 1}]}, "invalid ulimit value"),
    ],
)  # fmt: skip
def test_a_host_option_that_makes_no_sense_is_refused(host, message):
    assert message in refused(BadParameter, host)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("/a:/b", ("/a", "/b", True, "rprivate")),
        ("/a:/b:ro", ("/a", "/b", False, "rprivate")),
        ("/a:/b:rshared", ("/a", "/b", True, "rshared")),
        ("/a:/b:slave,ro", ("/a", "/b", False, "slave")),
        ("/a:/b/../c//d/:cached,rw", ("/a", "/c/d", True, "rprivate")),
    ],
)
def test_a_bind_is_read(bind, expected):
    assert split_bind(bind) == expected


@pytest.mark.parametrize(
    "bind",
    ["", "/a", "/a:", ":/b", "/a:b", "/a:/", "/a:/..", "/a:/b:", "/a:/b:foo", "/a:/b:ro,rw",
     "/a:/b:shared,slave", "/a:/b:ro,ro", "/a:/b:ro:rw"],
)  # fmt: skip
def test_a_bad_bind_is_refused(bind):
    with pytest.raises(BadParameter, match="invalid"):
        split_bind(bind)


@given(st.text("/ab.", max_size=12))
def test_a_bind_never_lands_on_or_outside_of_the_root(target):
    try:
        landed = split_bind(f"/a:{target}")[1]
    except BadParameter:
        return
    assert landed.startswith("/")
    assert os.path.normpath(landed) not in ("/", "//")
    assert ".." not in landed.split("/")


@pytest.mark.parametrize("text", ["15", "TERM", "SIGTERM", "term"])
def test_a_signal_has_three_spellings(text):
    assert signal_number(text) == 15


@pytest.mark.parametrize(("text", "number"), [("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("RTMIN", 34)])
def test_a_real_time_signal_is_counted_from_its_end(text, number):
    assert signal_number(text) == number


@given(st.text(max_size=8) | st.integers().map(str))
def test_no_text_is_a_signal_that_the_kernel_does_not_know(text):
    with contextlib.suppress(BadParameter):
        assert 0 < signal_number(text) <= 64


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("no-new-privileges", True),
        ("no-new-privileges=true", True),
        ("no-new-privileges:false", False),
        ("seccomp=unconfined", False),
    ],
)
def test_a_security_option_says_no_new_privileges_or_nothing(option, expected):
    assert no_new_privileges_of(option) is expected


@given(
    st.text("/ab. ,=", min_size=1, max_size=9),
    st.text("ab-/", min_size=1, max_size=9),
    st.sampled_from(["ro", "rw", None]),
    st.sampled_from([*options.PROPAGATION, None]),
)
def test_a_bind_is_read_back_as_it_was_written(source, target, access, propagation):
    words = ",".join(filter(None, [access, propagation]))
    word = f"/{source}:/x{target}" + (f":{words}" if words else "")
    expected = (f"/{source}", os.path.normpath(f"/x{target}"), access != "ro")
    assert split_bind(word) == (*expected, propagation or "rprivate")
