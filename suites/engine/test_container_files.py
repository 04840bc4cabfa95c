"""hostname, hosts, resolv.conf and its hash: texts as Docker writes them, anew at each start."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import files
from startkit.daemon.files import hash_text, hosts_text, reachable, resolv_conf_text
from startkit.daemon.types import Config, HostConfig

FALLBACK = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
MACHINE = (
    "# the machine's\nsearch lan\nnameserver 127.0.0.53\nnameserver 10.0.0.1\noptions ndots:2\n"
)
SERVERS = st.lists(st.ip_addresses().map(str), max_size=5)


def start(directory, **host):
    """Return what a step of a start works on, as far as these steps look."""
    config = Config(hostname="0123456789ab")
    container = SimpleNamespace(
        dir=directory, host=HostConfig(**host), hostname=config.hostname, record=None
    )
    return SimpleNamespace(container=container)


def test_hostname_is_one_line(tmp_path):
    files.write_hostname(start(tmp_path))
    assert (tmp_path / "hostname").read_text() == "0123456789ab\n"


def test_hosts_begins_with_dockers_six_lines():
    assert hosts_text([]) == (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "ff00::0\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n"
    )


def test_added_hosts_follow_in_the_order_given():
    assert hosts_text(["b:1.2.3.4", "a:::1", "b:5.6.7.8"]).splitlines()[6:] == [
        "1.2.3.4\tb", "::1\ta", "5.6.7.8\tb",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.text("ab.-", min_size=1), st.ip_addresses().map(str))))
def test_hosts_reads_back_to_dockers_names_and_those_given(extra):
    rows = [line.split("\t") for line in hosts_text(f"{n}:{a}" for n, a in extra).splitlines()]
    assert rows[:6] == [list(row) for row in files.LOCAL_NAMES]
    assert rows[6:] == [[address, name] for name, address in extra]


def test_with_the_machines_network_hosts_is_the_machines(tmp_path):
    files.write_hosts(start(tmp_path, network_mode="host"))
    assert (tmp_path / "hosts").read_text() == Path("/etc/hosts").read_text()


def test_an_added_host_makes_a_file_of_its_own_on_the_machines_network(tmp_path):
    files.write_hosts(start(tmp_path, network_mode="host", extra_hosts=["a:1.2.3.4"]))
    assert (tmp_path / "hosts").read_text() == hosts_text(["a:1.2.3.4"])


def test_the_machines_resolv_conf_has_no_hash(tmp_path):
    files.write_resolv_conf(start(tmp_path, network_mode="host"))
    assert [path.name for path in tmp_path.iterdir()] == ["resolv.conf"]


def test_an_edit_lives_until_the_next_start(tmp_path):
    work = start(tmp_path, network_mode="none")
    for write in (files.write_hostname, files.write_hosts, files.write_resolv_conf):
        write(work)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        path.write_text("an edit")
        path.chmod(0o600)
    for write in (files.write_hostname, files.write_hosts, files.write_resolv_conf):
        write(work)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, "# the machine's\nsearch lan\nnameserver 10.0.0.1\noptions ndots:2\n"),
        ({"network_mode": "host"}, MACHINE),
        ({"dns": ["1.1.1.1", "9.9.9.9"]},
         "search lan\nnameserver 1.1.1.1\nnameserver 9.9.9.9\noptions ndots:2\n"),
        ({"network_mode": "host", "dns": ["1.1.1.1"]},
         "search lan\nnameserver 1.1.1.1\noptions ndots:2\n"),
        ({"dns": ["1.1.1.1"], "dns_search": ["a.org", "b.org"], "dns_options": ["x", "ndots:3"]},
         "search a.org b.org\nnameserver 1.1.1.1\noptions x ndots:3\n"),
        ({"dns": ["1.1.1.1"], "dns_search": ["."], "dns_options": ["x"]},
         "nameserver 1.1.1.1\noptions x\n"),
        ({"dns": ["127.0.0.1"], "dns_search": ["a.org"]},
         "search a.org\nnameserver 127.0.0.1\noptions ndots:2\n"),
    ],
)  # fmt: skip
def test_resolv_conf_is_made_of_the_options_and_the_machines(host, expected):
    assert resolv_conf_text(HostConfig(**host), MACHINE) == expected


@pytest.mark.parametrize(
    "machine", ["", "nameserver 127.0.0.53\n", "nameserver ::1\n", "nameserver fe80::1%eth0\n"]
)
def test_two_public_servers_stand_in_where_none_can_be_asked(machine):
    assert resolv_conf_text(HostConfig(network_mode="none"), machine) == FALLBACK


WORDS = st.lists(st.text("ab.:1", min_size=1), min_size=1, max_size=3)


@given(dns=SERVERS.filter(bool), search=WORDS.filter(lambda w: w != ["."]), words=WORDS)
def test_resolv_conf_reads_back_to_the_options(dns, search, words):
    given = HostConfig(dns=dns, dns_search=search, dns_options=words)
    text = resolv_conf_text(given, MACHINE)
    assert [line.split() for line in text.splitlines()] == [
        ["search", *search], *(["nameserver", server] for server in dns), ["options", *words]
    ]  # fmt: skip


@given(SERVERS)
def test_of_the_machines_servers_those_that_can_be_asked_stay_in_order(servers):
    text = resolv_conf_text(HostConfig(), "".join(f"nameserver {s}\n" for s in servers))
    kept = [s for s in servers if reachable(s)]
    assert text == ("".join(f"nameserver {s}\n" for s in kept) or FALLBACK)


@given(st.ip_addresses())
def test_a_loopback_server_cannot_be_asked_from_an_own_network(address):
    assert reachable(str(address)) is (address.version == 4 and not address.is_loopback)


@given(st.ip_addresses(v=4, network=ipaddress.ip_network("127.0.0.0/8")))
def test_all_of_127_is_the_loopback(address):
    assert not reachable(str(address))


@given(st.text(max_size=100))
def test_the_hash_is_71_characters_of_the_files_content(text):
    written = hash_text(text)
    assert written == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert len(written) == 71


def test_the_hash_beside_the_file_is_of_the_file(tmp_path):
    files.write_resolv_conf(start(tmp_path, dns=["1.1.1.1"]))
    digest = hashlib.sha256((tmp_path / "resolv.conf").read_bytes()).hexdigest()
    assert (tmp_path / "resolv.conf.hash").read_text() == f"sha256:{digest}"


@pytest.mark.parametrize(
    ("mode", "own"),
    [("", True), ("private", True), ("shareable", True), ("host", False), ("container:x", False)],
)
def test_a_container_has_a_shm_of_its_own_unless_it_shares(mode, own):
    assert files.own_shm(HostConfig(ipc_mode=mode)) is own
