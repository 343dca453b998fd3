#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The program poolswitch as its users run it: against a daemon on the
simulated GPU, against none, and against something else on its socket.

test_cli.py BUILD
"""

import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

BUILD = pathlib.Path(__file__).resolve().parent  # replaced by main
WAIT_S = 30
EX_USAGE, EX_UNAVAILABLE, EX_IOERR = 64, 69, 74
EX_TEMPFAIL, EX_PROTOCOL, EX_NOPERM = 75, 76, 77
NOBODY = 65534

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? '
                    r'(-?[0-9.]+)')


class CliTest(unittest.TestCase):
    """A folder of its own: nothing is found that the test did not make."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.folder.chmod(0o755)
        self.socket = str(self.folder / "socket")
        self.env = {
            **os.environ, "POOLSWITCH_DRIVER": "sim",
            "POOLSWITCH_SIM_DIR": str(self.folder / "gpu"),
            "XDG_RUNTIME_DIR": str(self.folder / "none"),
            "TERM": "xterm"}
        self.env.pop("POOLSWITCH_SOCKET", None)
        self.env.pop("NO_COLOR", None)

    def command(self, *words):
        return [str(BUILD / "cli/poolswitch"), *words]

    def run_cli(self, *words, env=None, **options):
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(
            self.command(*words), text=True, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, timeout=WAIT_S,
            env={**self.env, **(env or {})}, **options)

    def ask(self, command, *words, **options):
        return self.run_cli(command, "--socket", self.socket, *words,
                            **options)

    def assert_exit(self, done, code):
        self.assertEqual(done.returncode, code, done.stdout)

    def start(self, *words, env=None, stdin=subprocess.DEVNULL):
        process = subprocess.Popen(
            words, text=True, stdout=subprocess.PIPE, stdin=stdin,
            env={**self.env, **(env or {})})
        self.addCleanup(self.end, process)
        return process

    def start_daemon(self):
        self.daemon = self.start(
            str(BUILD / "poold/poolswitchd"), "--socket", self.socket,
            "--size", "64M", "--segment", "2M", "--parameter", "8M")
        self.assertNotEqual(self.daemon.stdout.readline(), "")

    def attach(self, name, mib):
        """A client with one block; it leaves when its stdin is closed."""
        client = self.start(
            str(BUILD / "tests/process/attached"), name, str(mib),
            env={"POOLSWITCH_SOCKET": self.socket}, stdin=subprocess.PIPE)
        self.addCleanup(client.stdin.close)
        self.assertEqual(client.stdout.readline(), "ready\n")
        return client

    def end(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.fail("it did not end")
        finally:
            process.stdout.close()


class WithoutDaemonTest(CliTest):
    def test_no_daemon_is_unavailable(self):
        for command in ("status", "clients", "drain", "shutdown", "reload",
                        "metrics"):
            done = self.ask(command)
            self.assert_exit(done, EX_UNAVAILABLE)
            self.assertEqual(done.stdout, "")
            self.assertIn(self.socket, done.stderr)

    def test_failure_with_json_is_json(self):
        done = self.ask("status", "--json")
        error = json.loads(done.stdout)["error"]
        self.assertEqual(error["status"], "PS_NO_DAEMON")
        self.assertEqual(error["exit"], done.returncode)
        self.assertIn(self.socket, error["text"])

    def test_wrong_command_line_is_usage(self):
        for words in ((), ("top",), ("status", "--fast"), ("status", "more"),
                      ("status", "--gpu", "0"), ("status", "--socket", ""),
                      ("status", "--socket", "/" * 200),
                      ("doctor", "--gpu", "first")):
            self.assert_exit(self.run_cli(*words), EX_USAGE)

    def test_help_and_version_are_everywhere(self):
        for command in ((), ("status",), ("clients",), ("drain",),
                        ("shutdown",), ("reload",), ("metrics",),
                        ("doctor",), ("run",), ("model",), ("bench",)):
            self.assert_exit(self.run_cli(*command, "--help"), 0)
            version = self.run_cli(*command, "--json", "--version")
            self.assertRegex(json.loads(version.stdout)["version"],
                             r"^\d+\.\d+\.\d+$")

    def test_help_fits_80_columns(self):
        for words in (("--help",), ("metrics", "--help"),
                      ("run", "--help")):
            for line in self.run_cli(*words).stdout.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_socket_is_found_by_the_environment(self):
        done = self.run_cli("status",
                            env={"POOLSWITCH_SOCKET": "/nowhere/at/all"})
        self.assertIn("/nowhere/at/all", done.stderr)

    def test_full_disk_is_told(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = self.run_cli("doctor", stdout=full)
        self.assert_exit(done, EX_IOERR)


class DoctorTest(CliTest):
    def test_simulated_gpu_is_well(self):
        done = self.run_cli("doctor")
        self.assert_exit(done, 0)
        self.assertRegex(done.stdout, r"(?m)^yes  driver +CUDA")
        self.assertNotRegex(done.stdout, r"(?m)^no ")

    def test_no_driver_is_a_finding(self):
        done = self.run_cli("doctor", "--json",
                            env={"POOLSWITCH_SIM_LIBRARY": "/nowhere"})
        self.assert_exit(done, 1)
        said = json.loads(done.stdout)
        self.assertFalse(said["ok"])
        findings = {row["need"]: row for row in said["findings"]}
        self.assertFalse(findings["driver"]["ok"])
        self.assertIn("/nowhere", findings["driver"]["found"])
        self.assertTrue(findings["kernel"]["ok"])

    def test_no_driver_is_told_in_80_columns(self):
        done = self.run_cli("doctor",
                            env={"POOLSWITCH_SIM_LIBRARY": "/nowhere"})
        self.assertRegex(done.stdout, r"(?m)^no   driver +/nowhere")
        for line in done.stdout.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_daemon_is_looked_for_on_request(self):
        done = self.ask("doctor")
        self.assert_exit(done, 1)
        self.assertRegex(done.stdout, r"(?m)^no   daemon ")


class BenchTest(CliTest):
    """An interpreter that prints what it was given, in the place of one."""

    def bench(self, *words, has_package=True):
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        python = folder / "python3"
        python.write_text(
            "#!/bin/sh\n"
            f'[ "$1" = -c ] && exit {0 if has_package else 1}\n'
            'printf "%s\\n" "$POOLSWITCH_SOCKET" "$@"\nexit 3\n')
        python.chmod(0o755)
        return self.run_cli("bench", *words,
                            env={"PATH": f"{folder}:{os.environ['PATH']}"})

    def test_bench_becomes_the_package(self):
        done = self.bench("--socket", "/a", "switch", "--json", "f", "--help")
        self.assert_exit(done, 3)
        self.assertEqual(done.stdout.splitlines(),
                         ["/a", "-m", "poolswitch.bench", "switch", "--json",
                          "f", "--help"])

    def test_bench_without_the_package_says_what_to_do(self):
        done = self.bench("switch", has_package=False)
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertIn("pip install .", done.stderr)

    def test_bench_without_python_says_what_to_do(self):
        done = self.run_cli("bench", "switch",
                            env={"PYTHON": "/nowhere/python"})
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertIn("/nowhere/python", done.stderr)
        self.assertIn("pip install .", done.stderr)

    def test_bench_of_nothing_is_usage(self):
        self.assert_exit(self.bench(), EX_USAGE)


class StrangeDaemonTest(CliTest):
    """Somebody listens who is no daemon, or not for us."""

    def listen(self, serve):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(self.socket)
        server.listen()

        def accept():
            peer, _ = server.accept()
            with peer:
                serve(peer)

        thread = threading.Thread(target=accept)
        thread.start()
        self.addCleanup(server.close)
        self.addCleanup(thread.join, WAIT_S)

    def test_daemon_that_ends_is_not_now(self):
        self.listen(lambda peer: peer.recv(4096))
        self.assert_exit(self.ask("status"), EX_TEMPFAIL)

    def test_nonsense_is_protocol(self):
        def talk(peer):
            peer.recv(4096)
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")

        self.listen(talk)
        self.assert_exit(self.ask("status"), EX_PROTOCOL)

    @unittest.skipIf(os.getuid() != 0, "only root can be somebody else")
    def test_socket_of_another_user_is_no_permission(self):
        self.listen(lambda peer: None)
        os.chmod(self.socket, 0o600)
        done = self.ask("status", user=NOBODY, group=NOBODY, extra_groups=[])
        self.assert_exit(done, EX_NOPERM)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as own:
            own.connect(self.socket)


class DaemonTest(CliTest):
    """Against a daemon on the simulated GPU."""

    def setUp(self):
        super().setUp()
        self.start_daemon()

    def on_terminal(self, *words, env=None):
        """What the command writes to a terminal."""
        ours, theirs = pty.openpty()
        done = self.ask(*words, stdout=theirs, env=env)
        os.close(theirs)
        self.assert_exit(done, 0)
        text = b""
        try:
            while more := os.read(ours, 4096):
                text += more
        except OSError:  # its other end is closed
            pass
        os.close(ours)
        return text

    def test_status_shows_both_regions(self):
        done = self.ask("status")
        self.assert_exit(done, 0)
        self.assertRegex(done.stdout, r"(?m)^parameter +8\.00 MiB +\[:+\]$")
        self.assertRegex(done.stdout, r"(?m)^computation +56\.0 MiB +\[\.+\]$")
        self.assertIn("no clients", done.stdout)

    def test_status_json_has_the_fields(self):
        said = json.loads(self.ask("status", "--json").stdout)
        self.assertEqual(said["state"], "serving")
        self.assertEqual(said["socket"], self.socket)
        self.assertEqual(said["regions"]["computation"]["bytes"], 56 << 20)

    def test_clients_json_is_a_list(self):
        said = json.loads(self.ask("clients", "--json").stdout)
        self.assertEqual(said, {"clients": []})

    def test_output_to_a_file_has_no_colours(self):
        for words in (("status",), ("clients",), ("doctor",), ("metrics",)):
            self.assertNotIn("\033", self.ask(*words).stdout)

    def test_output_to_a_terminal_has_colours(self):
        self.assertIn(b"\033[34m", self.on_terminal("status"))

    def test_no_color_is_heeded(self):
        self.assertNotIn(
            b"\033", self.on_terminal("status", env={"NO_COLOR": "1"}))
        self.assertNotIn(
            b"\033", self.on_terminal("status", env={"TERM": "dumb"}))

    def test_doctor_finds_the_daemon(self):
        done = self.ask("doctor")
        self.assertRegex(done.stdout, r"(?m)^yes  daemon +poolswitchd ")

    def test_reload_is_answered(self):
        self.assert_exit(self.ask("reload"), 0)

    @unittest.skipIf(os.getuid() != 0, "only root can be somebody else")
    def test_order_of_another_user_is_no_permission(self):
        os.chmod(self.socket, 0o666)
        for command in ("drain", "shutdown", "reload"):
            done = self.ask(command, user=NOBODY, group=NOBODY,
                            extra_groups=[])
            self.assert_exit(done, EX_NOPERM)
        self.assert_exit(self.ask("status", user=NOBODY, group=NOBODY,
                                  extra_groups=[]), 0)

    def test_drain_ends_an_idle_daemon(self):
        self.assert_exit(self.ask("drain"), 0)
        self.assertEqual(self.daemon.wait(WAIT_S), 0)

    def test_shutdown_ends_the_daemon(self):
        done = self.ask("shutdown", "--json")
        self.assertEqual(json.loads(done.stdout)["state"], "stopping")
        self.assertEqual(self.daemon.wait(WAIT_S), 0)


class ClientTest(CliTest):
    """With a client that has a block of 6 MiB and a reservation of 4."""

    def setUp(self):
        super().setUp()
        self.start_daemon()
        self.client = self.attach("trainer", 6)
        self.await_answer()

    def await_answer(self):
        """Until its service thread has answered once: on a busy machine it
        may take longer than the daemon waits for it."""
        for _ in range(100):
            status = json.loads(self.ask("status", "--json").stdout)
            if status["clients"][0]["live"]:
                return
        self.fail("it never answered")

    def test_status_shows_a_client(self):
        text = self.ask("status").stdout
        self.assertRegex(text, rf"(?m)^ +{self.client.pid} \w+ +trainer +"
                               r"(?:here|quiet) +6\.00 MiB ")
        self.assertRegex(text, r"(?m)^computation .* \[#+\.*\]$")
        self.assertRegex(text, r"guaranteed  4\.00 MiB")

    def test_clients_shows_leases_and_reservation(self):
        text = self.ask("clients").stdout
        self.assertRegex(text, rf"(?m)^ +{self.client.pid} \w+ +trainer .*"
                               r" 4\.00 MiB .* +1$")
        client, = json.loads(self.ask("clients", "--json").stdout)["clients"]
        self.assertGreaterEqual(client["leased"], 6 << 20)
        self.assertEqual(client["reservation"], 4 << 20)

    def test_metrics_have_a_client(self):
        text = self.ask("metrics").stdout
        self.assertRegex(text, r'(?m)^poolswitch_client_live_bytes\{id="\w+",'
                               rf'name="trainer",pid="{self.client.pid}",'
                               rf'uid="{os.getuid()}"\}} {6 << 20}$')

    def test_drain_waits_for_the_client(self):
        self.assertIn("1 client with", self.ask("drain").stdout)
        self.assertIn("draining", self.ask("status").stdout)
        self.assertIsNone(self.daemon.poll())
        self.client.stdin.close()
        self.assertEqual(self.client.wait(WAIT_S), 0)
        self.assertEqual(self.daemon.wait(WAIT_S), 0)


class MetricsTest(CliTest):
    def setUp(self):
        super().setUp()
        self.start_daemon()

    def parse(self, text):
        """{name: [(labels, value)]}; each has HELP and TYPE before it."""
        samples, types = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertIn(kind, ("gauge", "counter"))
                self.assertEqual(kind == "counter", name.endswith("_total"))
                types[name] = kind
            elif line.startswith("# HELP "):
                self.assertGreater(len(line.split()), 3, line)
            else:
                found = SAMPLE.fullmatch(line)
                self.assertTrue(found, line)
                self.assertIn(found[1], types)
                samples.setdefault(found[1], []).append(
                    (found[2], float(found[3])))
        return samples

    def serve(self):
        server = self.start(*self.command(
            "metrics", "--socket", self.socket, "--listen", "127.0.0.1:0"))
        url = server.stdout.readline().strip()
        self.assertRegex(url, r"^http://127\.0\.0\.1:\d+/metrics$")
        return server, url

    def get(self, url, method="GET"):
        request = urllib.request.Request(url, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.headers, answer.read().decode()

    def test_metrics_parse_and_add_up(self):
        samples = self.parse(self.ask("metrics").stdout)
        self.assertEqual(samples["poolswitch_up"], [(None, 1)])
        uses = sum(value for _, value
                   in samples["poolswitch_computation_bytes"])
        self.assertEqual(uses, 56 << 20)
        self.assertIn("poolswitch_grants_total", samples)

    def test_metrics_are_served(self):
        _, url = self.serve()
        headers, text = self.get(url)
        self.assertIn("version=0.0.4", headers["Content-Type"])
        self.assertIn("poolswitch_up", self.parse(text))
        self.assertEqual(self.get(url, "HEAD")[1], "")

    def test_metrics_outlive_the_daemon(self):
        _, url = self.serve()
        self.ask("shutdown")
        self.daemon.wait(WAIT_S)
        self.assertEqual(self.parse(self.get(url)[1]),
                         {"poolswitch_up": [(None, 0)]})

    def test_metrics_other_requests_are_refused(self):
        _, url = self.serve()
        for where, method, code in ((url + "x", "GET", 404),
                                    (url, "POST", 405)):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                self.get(where, method)
            self.assertEqual(caught.exception.code, code)
            caught.exception.close()

    def test_metrics_end_by_a_signal(self):
        server, _ = self.serve()
        server.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait(WAIT_S), 0)

    def test_metrics_network_is_refused(self):
        for where in ("0.0.0.0:0", "[::]:0", "10.0.0.1:9464", "9464"):
            done = self.ask("metrics", "--listen", where)
            self.assert_exit(done, EX_USAGE)
            self.assertIn(where, done.stderr)

    def test_metrics_port_in_use_is_told(self):
        _, url = self.serve()
        done = self.ask("metrics", "--listen",
                        re.search(r"//(.*)/", url)[1])
        self.assert_exit(done, 71)
        self.assertIn("choose another port", done.stderr)


def main():
    global BUILD
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()


if __name__ == "__main__":
    main()
