"""docker's own CLI, unmodified, both versions: streams, terminals, exit statuses, lists."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios

import pytest

LINES = 40_000
LIMIT_S = 10
TRAP = "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.1; done"


class Terminal:
    """A docker command on a pty of 33 rows and 101 columns."""

    def __init__(self, engine, client, *words):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            argv = [client, *("startkit/base" if w == "$IMAGE" else w for w in words)]
            os.execve(client, argv, engine.environment)
        self.size(33, 101)

    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, wanted):
        """Return what is shown until `wanted` is."""
        seen = b""
        while wanted not in seen:
            seen += self.read()
        return seen

    def read(self):
        """Return what is shown next; a command that hangs is killed after LIMIT_S."""
        if not select.select([self.fd], [], [], LIMIT_S)[0]:
            os.kill(self.pid, signal.SIGKILL)
        return os.read(self.fd, 4096)

    def say(self, text):
        os.write(self.fd, text)

    def end(self):
        """Return what is still shown, and the command's exit status."""
        seen = b""
        try:
            while block := self.read():
                seen += block
        except OSError:  # EIO: the last one has closed the other side
            pass
        os.close(self.fd)
        return seen, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_client_negotiates_down_and_tells_both_versions(engine, client):
    shown = engine.ok("version", "--format", "{{.Client.APIVersion}} {{.Server.APIVersion}}",
                      client=client)  # fmt: skip

    assert shown == "1.41 1.41"


def test_output_goes_to_its_own_stream_and_the_status_is_the_programs(engine, client):
    done = engine.docker(
        "run", "--rm", "$IMAGE", "sh", "-c", "echo out; echo err >&2; exit 7", client=client
    )

    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        ("nope", 127, 'exec: "nope": executable file not found in $PATH'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": '),
    ],
)
def test_a_program_that_cannot_run_is_told_once_in_runcs_words(
    engine, client, program, status, words
):
    done = engine.docker("run", "--rm", "$IMAGE", program, client=client)

    assert done.returncode == status
    assert words in done.stderr
    assert "waiting for container" not in done.stderr.lower()
    assert engine.ok("ps", "-aq") == ""


def test_a_request_that_is_refused_has_status_125(engine, client):
    done = engine.docker("run", "--rm", "--name", "a/b", "$IMAGE", "true", client=client)

    assert done.returncode == 125


def test_five_megabytes_go_in_and_come_out_whole(engine, client):
    data = b"abcdefgh" * 650_000
    done = engine.docker(
        "run", "--rm", "-i", "$IMAGE", "cat", client=client, input=data, text=False
    )

    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, b"")


def test_every_line_reaches_the_client_and_the_log(engine):
    script = f"i=0; while [ $i -lt {LINES} ]; do echo line$i; i=$((i+1)); done"
    wanted = "".join(f"line{i}\n" for i in range(LINES))

    assert engine.docker("run", "--name", "box", "$IMAGE", "sh", "-c", script).stdout == wanted
    assert engine.docker("logs", "box").stdout == wanted
    assert engine.docker("logs", "--tail", "2", "box").stdout == "line39998\nline39999\n"


def test_input_that_nobody_reads_holds_nothing_up(engine):
    done = engine.docker(
        "run", "--rm", "-i", "$IMAGE", "head", "-c3", input=b"z" * 3_000_000, text=False
    )

    assert (done.returncode, done.stdout) == (0, b"zzz")


def test_a_container_can_close_its_stdin(engine):
    script = "exec 0<&-; echo closed"
    done = engine.docker("run", "--rm", "-i", "$IMAGE", "sh", "-c", script, input="z" * 300_000)

    assert (done.returncode, done.stdout) == (0, "closed\n")


def test_a_container_without_i_reads_the_end_of_file(engine):
    assert engine.ok("run", "--rm", "$IMAGE", "wc", "-c") == "0"


def test_an_exited_container_is_started_again_with_input(engine, client):
    engine.ok("create", "-i", "--name", "box", "$IMAGE", "cat", client=client)

    assert engine.docker("start", "-ai", "box", client=client, input="one").stdout == "one"
    assert engine.docker("start", "-ai", "box", client=client, input="two").stdout == "two"
    assert engine.docker("logs", "box", client=client).stdout == "onetwo"


def test_start_with_attach_has_the_containers_status(engine, client):
    engine.ok("create", "--name", "box", "$IMAGE", "sh", "-c", "exit 5", client=client)

    assert engine.docker("start", "-a", "box", client=client).returncode == 5


def test_a_terminal_has_the_clients_size_and_follows_it(engine, client):
    script = (
        'until [ "$(stty size)" = "33 101" ]; do sleep 0.02; done; echo $TERM;'
        'until [ "$(stty size)" = "40 120" ]; do sleep 0.02; done; exit 3'
    )
    terminal = Terminal(engine, client, "run", "--rm", "-it", "$IMAGE", "sh", "-c", script)
    terminal.until(b"xterm\r\n")
    terminal.size(40, 120)

    assert terminal.end() == (b"", 3)


def test_ctrl_p_ctrl_q_lets_go_and_attach_takes_up_again(engine, client):
    terminal = Terminal(engine, client, "run", "-it", "--name", "box", "$IMAGE", "sh")
    terminal.until(b"# ")
    terminal.say(b"X=5; echo set\n")
    terminal.until(b"\nset\r\n")
    terminal.say(b"\x10\x11")
    _, status = terminal.end()
    assert (status, engine.state("box")["Running"]) == (0, True)

    terminal = Terminal(engine, client, "attach", "box")
    terminal.say(b"echo v$X; exit 4\n")
    shown, status = terminal.end()

    assert (b"v5\r\n" in shown, status) == (True, 4)


def test_stop_lets_the_program_end_and_all_who_wait_are_told(engine, client):
    engine.ok("run", "-d", "--name", "box", "$IMAGE", "sh", "-c", TRAP, client=client)
    logs = engine.popen("logs", "-f", "box", client=client)
    waiting = engine.popen("wait", "box", client=client)
    assert logs.stdout.readline() == b"up\n"
    assert engine.ok("stop", "box", client=client) == "box"

    assert (logs.communicate()[0], waiting.communicate()[0]) == (b"got\n", b"9\n")
    assert engine.state("box")["ExitCode"] == 9


def test_attach_ends_with_the_containers_status(engine, client):
    engine.ok("run", "-di", "--name", "box", "$IMAGE", "sh", "-c", "read x; echo $x; exit 6")
    done = engine.docker("attach", "box", client=client, input="hello\n")

    assert (done.returncode, done.stdout) == (6, "hello\n")


def test_ctrl_c_reaches_the_program(engine, client):
    script = "trap 'exit 11' INT; echo up; while :; do sleep 0.1; done"
    running = engine.popen("run", "--rm", "$IMAGE", "sh", "-c", script, client=client)
    assert running.stdout.readline() == b"up\n"
    running.send_signal(2)
    running.communicate()

    assert running.returncode == 11


def test_a_killed_client_leaves_its_container_running(engine):
    running = engine.popen(
        "run", "-i", "--name", "box", "$IMAGE", "sh", "-c", "read x; echo $x; cat"
    )
    running.stdin.write(b"one\n")
    running.stdin.flush()
    assert running.stdout.readline() == b"one\n"
    running.kill()
    running.communicate()

    assert engine.state("box")["Running"]


def test_a_signal_that_a_program_does_not_survive_is_its_status(engine, client):
    engine.ok("run", "-d", "--name", "box", "$IMAGE", "sleep", "1000", client=client)
    engine.ok("kill", "-s", "USR1", "box", client=client)
    assert engine.state("box")["Running"]  # an init without a handler ignores it
    engine.ok("kill", "box", client=client)

    assert engine.ok("wait", "box", client=client) == "137"


def test_ps_filters_pick_their_containers(engine, client):
    engine.docker("run", "--name", "gone", "$IMAGE", "sh", "-c", "exit 3", client=client)
    engine.ok("create", "--name", "fresh", "--label", "k=v", "$IMAGE", "true", client=client)
    engine.ok("run", "-d", "--name", "runs", "$IMAGE", "sleep", "1000", client=client)

    def names(*words):
        shown = engine.ok("ps", "--format", "{{.Names}}", *words, client=client)
        return set(shown.split())

    assert names() == {"runs"}
    assert names("-a") == {"gone", "fresh", "runs"}
    assert names("-l") == {"runs"}
    assert names("-a", "-f", "status=created") == {"fresh"}
    assert names("-f", "status=exited") == {"gone"}
    assert names("-a", "-f", "exited=3") == {"gone"}
    assert names("-a", "-f", "label=k=v") == {"fresh"}
    assert names("-a", "-f", "label=k=w") == set()
    assert names("-a", "-f", "name=^/?r") == {"runs"}
    assert names("-a", "-f", "before=runs") == {"gone", "fresh"}
    assert names("-a", "-f", "since=gone") == {"fresh", "runs"}
    assert names("-a", "-f", "ancestor=startkit/base") == {"gone", "fresh", "runs"}
    assert names("-n", "2") == {"fresh", "runs"}


def test_a_container_answers_to_its_new_name_only(engine, client):
    engine.ok("create", "--name", "old", "$IMAGE", "true", client=client)
    engine.ok("rename", "old", "new", client=client)

    assert engine.ok("inspect", "-f", "{{.Name}}", "new", client=client) == "/new"
    assert engine.docker("inspect", "old", client=client).returncode == 1


def test_a_running_container_is_removed_by_force_only(engine, client):
    engine.ok("run", "-d", "--name", "box", "$IMAGE", "sleep", "1000", client=client)
    refused = engine.docker("rm", "box", client=client)

    assert refused.returncode == 1
    assert "Stop the container before attempting removal or force remove" in refused.stderr
    assert engine.ok("rm", "-f", "box", client=client) == "box"
    assert engine.ok("ps", "-aq", client=client) == ""


def test_logs_show_times_and_pick_by_them(engine, client):
    engine.ok("run", "--name", "box", "$IMAGE", "sh", "-c", "echo a; echo b >&2", client=client)
    stamp, _, text = engine.ok("logs", "-t", "box", client=client).partition(" ")

    assert (stamp[10], stamp[-1], text) == ("T", "Z", "a")
    assert engine.ok("logs", "--since", "1h", "box", client=client) == "a"
    assert engine.ok("logs", "--until", "2001-01-01T00:00:00", "box", client=client) == ""


def test_inspect_of_nothing_says_so(engine, client):
    done = engine.docker("inspect", "nosuch", client=client)

    assert done.returncode == 1
    assert "no such object: nosuch" in done.stderr.lower()


def test_twenty_starts_at_once_all_come_up(engine):
    names = [f"c{number}" for number in range(20)]
    for name in names:
        engine.ok("create", "--name", name, "$IMAGE", "sleep", "1000")
    starting = [engine.popen("start", name) for name in names]
    outputs = [process.communicate() for process in starting]

    assert outputs == [(f"{name}\n".encode(), b"") for name in names]
    assert set(engine.ok("ps", "--format", "{{.Names}}").split()) == set(names)
