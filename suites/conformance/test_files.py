"""What the engine writes into the container's directory."""

from __future__ import annotations

from hashlib import sha256

import pytest

clause = pytest.mark.clause

PUBLIC = ["8.8.8.8", "8.8.4.4"]  # what an engine falls back to
SHM_FLAGS = {"nodev", "noexec", "nosuid"}


def names(moment, container):
    """Return what stands directly in the container's directory, sorted as if ids were alike."""
    own = [name for name in moment.files if "/" not in name]
    return sorted(name.replace(container, "<ID>") for name in own)


def lines(moment, name, first):
    """Return the lines of a file whose first word is `first`."""
    text = moment.file(name).text or ""
    return [line for line in text.splitlines() if line.split()[:1] == [first]]


def nameservers(text):
    """Return the addresses of the nameserver lines."""
    rows = (line.split() for line in text.splitlines())
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]


def is_local(address):
    """Say whether an address is the host's own loopback."""
    return address.startswith("127.") or address == "::1"


def shm_size(moment):
    """Return the size option of the container's /dev/shm."""
    options = moment.mount("/dev/shm").super_options
    return next((option for option in options if option.startswith("size=")), None)


def tmpfs_places(moment):
    """Return where the host has a tmpfs for the container."""
    return [mount.target for mount in moment.host_mounts if mount.fstype == "tmpfs"]


@clause("files.names.created")
def test_before_the_first_start_three_names_are_there(seen, expect):
    expect(names(seen.created, seen.id))


@clause("files.names.running")
def test_a_start_adds_six_names(seen, expect):
    expect(names(seen, seen.id))


@clause("files.hostname.default")
def test_hostname_holds_the_short_id(seen, expect):
    expect(seen.file("hostname").text)


@clause("files.hostname.option")
def test_hostname_holds_what_the_user_says(seen, expect):
    expect(seen.file("hostname").text)


@clause("files.hostname.mode")
def test_everybody_can_read_hostname(seen, expect):
    expect(seen.file("hostname").mode)


@clause("files.hosts.default")
def test_hosts_names_localhost_and_the_groups(seen, expect):
    expect(seen.file("hosts").text)


@clause("files.hosts.add-host")
def test_added_hosts_are_the_last_lines_in_order(seen, expect):
    expect((seen.file("hosts").text or "").splitlines()[-2:])


@clause("files.resolv-conf.default")
def test_resolv_conf_has_the_servers_that_can_be_reached(seen, expect):
    servers = nameservers(seen.seen.host.resolv_conf)
    reached = [address for address in servers if not is_local(address)]
    expect(nameservers(seen.file("resolv.conf").text or ""), want=reached or PUBLIC)


@clause("files.resolv-conf.dns")
def test_dns_servers_of_the_user_are_the_only_ones(seen, expect):
    expect(nameservers(seen.file("resolv.conf").text or ""))


@clause("files.resolv-conf.search")
def test_search_domains_stand_on_one_line(seen, expect):
    expect(lines(seen, "resolv.conf", "search"))


@clause("files.resolv-conf.options")
def test_dns_options_stand_on_one_line(seen, expect):
    expect(lines(seen, "resolv.conf", "options"))


@clause("files.resolv-conf-hash.matches")
def test_resolv_conf_hash_is_of_the_file_beside_it(seen, expect):
    digest = sha256(seen.text("resolv.conf").encode()).hexdigest()
    expect(seen.file("resolv.conf.hash").text, want=f"sha256:{digest}")


@clause("files.shm.host-mount")
def test_shm_is_a_tmpfs_of_the_host(seen, expect):
    expect(tmpfs_places(seen))


@clause("files.shm.type")
def test_dev_shm_is_in_memory(seen, expect):
    expect(seen.mount("/dev/shm").fstype)


@clause("files.shm.size.default")
def test_dev_shm_has_64_mib(seen, expect):
    expect(shm_size(seen))


@clause("files.shm.size.option")
def test_dev_shm_has_the_size_that_the_user_says(seen, expect):
    expect(shm_size(seen))


@clause("files.shm.flags")
def test_dev_shm_is_nosuid_nodev_noexec(seen, expect):
    expect(SHM_FLAGS & set(seen.mount("/dev/shm").options))


@clause("files.shm.unmounted")
def test_shm_is_unmounted_when_the_container_stops(seen, expect):
    expect(tmpfs_places(seen.stopped))


@clause("files.log.streams")
def test_the_log_tells_stdout_from_stderr(seen, expect):
    rows = [[str(line.get("stream")), str(line.get("log"))] for line in seen.stopped.log]
    expect(sorted(rows))


@clause("files.log.line")
def test_a_line_of_the_log_has_three_keys(seen, expect):
    expect(list(seen.log[0]))


@clause("files.log.terminal")
def test_with_a_terminal_the_log_has_one_stream(seen, expect):
    expect(sorted({str(line.get("stream")) for line in seen.log}))


@clause("files.log.mode")
def test_the_log_is_not_for_everybody(seen, expect):
    expect(seen.file(f"{seen.id}-json.log").mode)


@clause("files.log.appended")
def test_a_second_start_appends_to_the_log(seen, expect):
    expect([line.get("log") for line in seen.again.log])


@clause("files.restart.hostname")
def test_an_edited_hostname_lasts_until_the_next_start(seen, expect):
    expect(seen.again.file("hostname").text, want=seen.running.text("hostname"))


@clause("files.restart.hosts")
def test_an_edited_hosts_lasts_until_the_next_start(seen, expect):
    expect(seen.again.file("hosts").text, want=seen.running.text("hosts"))


@clause("files.restart.resolv-conf")
def test_an_edited_resolv_conf_lasts_until_the_next_start(seen, expect):
    expect(seen.again.file("resolv.conf").text, want=seen.running.text("resolv.conf"))
