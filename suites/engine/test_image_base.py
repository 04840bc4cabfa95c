"""The suites' own image: five layers, the same bytes every time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile

import pytest

from startkit import cli, image


@pytest.fixture(scope="module")
def made():
    return image.base()


def layers(archive):
    """Return each layer as {path: member}, base first."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))
        for name in manifest[0]["Layers"]:
            content = io.BytesIO(saved.extractfile(name).read())
            with tarfile.open(fileobj=content) as layer:
                yield {member.name: member for member in layer}


def test_the_same_host_makes_the_same_bytes(made):
    assert image.base() == made


def test_it_has_five_layers_with_one_speciality_each(made):
    base, plain, whiteout, opaque, setuid = layers(made[1])
    assert base["bin/sh"]
    assert {"etc/gone", "opt/dir/one", "opt/dir/two"} <= plain.keys()
    assert "etc/.wh.gone" in whiteout
    assert "opt/dir/.wh..wh..opq" in opaque
    assert opaque["opt/link"].issym()
    assert setuid["usr/bin/setuid-true"].mode == 0o4755


def test_no_layer_is_of_this_machine_or_this_day(made):
    for layer in layers(made[1]):
        for member in layer.values():
            assert (member.uid, member.gid, member.mtime) == (0, 0, image.MTIME)
            assert (member.uname, member.gname) == ("", "")


def test_every_directory_comes_before_what_is_in_it(made):
    for layer in layers(made[1]):
        known = {""}
        for name, member in layer.items():
            assert name.rpartition("/")[0] in known
            if member.isdir():
                known.add(name)


def test_the_command_writes_the_archive_and_names_it(made, tmp_path, capsys):
    assert cli.main(["image", "base", "-o", str(tmp_path / "base.tar")]) == 0
    assert (tmp_path / "base.tar").read_bytes() == made[1]
    assert capsys.readouterr().err == f"startkit/base:latest {made[0]}\n"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert cli.main(["image", "base", "-o", str(tmp_path / "no/base.tar")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("startkit image base: ")
    assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_without_busybox_the_hosts_own_shell_runs_in_it(monkeypatch, tmp_path):
    monkeypatch.setattr(image, "BUSYBOX", ())
    layer = image.layers()[0]
    subprocess.run(["tar", "-x", "-C", tmp_path], input=layer, check=True)
    ran = subprocess.run(
        ["chroot", tmp_path, "/bin/sh", "-c", "id -un && sleep 0 && ls /etc | sort"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.split() == ["root", "group", "passwd"]


def test_without_even_a_shell_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(image, "BUSYBOX", ())
    monkeypatch.setattr(image.shutil, "which", lambda name: None)
    with pytest.raises(image.ImageError, match="apt-get install busybox-static"):
        image.base()
