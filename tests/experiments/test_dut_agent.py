"""The real agent in a process of its own, driven by `instruments.dut`: runs, refusals, faults, and its lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import networks
from instruments import dut_protocol
from instruments.dut import Done, Dut, DutRefusedError
from instruments.dut_protocol import Mode
from instruments.errors import DutError
from instruments.marker_line import BATCH_BIT, GATE_BIT, WORK_BIT, RingReader, create_ring

AGENT = [sys.executable, "-m", "experiments.dut_agent"]
ROOT = Path(__file__).resolve().parents[2]
ENV = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingReader]:
    create_ring(str(tmp_path / "ring"))
    with RingReader(str(tmp_path / "ring")) as reader:
        yield reader


@pytest.fixture
def dut(ring: RingReader, tmp_path: Path) -> Iterator[Dut]:
    with Dut.start([*AGENT, "--marker", f"simulated:{tmp_path / 'ring'}"], ENV) as dut:
        yield dut


def _busy(dut: Dut, milliseconds: float = 2, *, batches: int = 20, run_id: str = "r1") -> Done:
    dut.prepare(f"busy:{milliseconds:g}", 1, run_s=0.1, warmup_s=0.05)
    dut.go(run_id, batches)
    return dut.wait_done(60)


def _script(code: str) -> list[str]:
    """Return a command that runs `code` with the agent's modules at hand."""
    return [sys.executable, "-c", "from experiments import dut_agent, dut_runner, dut_host\nimport os, sys\n" + code]


def _last_lines(ring: RingReader) -> int:
    return ring.read_new()[-1][1]


def test_hello_comes_before_torch_and_says_who_it_is(dut: Dut) -> None:
    hello = dut.hello()
    assert hello.networks[:2] == ("AlexNet", "BN-AlexNet")
    assert hello.networks[-1] == "busy:MILLISECONDS"
    assert hello.marker["kind"] == "simulated"
    assert len(hello.agent_sha256) == 64
    assert hello.pid != os.getpid()
    assert hello.host["cpus"] >= 1
    assert hello.facts["python"] == sys.version.split()[0]
    assert b"libtorch" not in Path(f"/proc/{hello.pid}/maps").read_bytes()


def test_hello_is_quick() -> None:
    """Of many starts one is, on a machine that others use."""
    for _ in range(30):
        start = time.monotonic()
        with Dut.start(AGENT, ENV):
            took_s = time.monotonic() - start
        if took_s < 0.3:
            return
    pytest.fail(f"no start took less than 0.3 s, the last one {took_s:.2f} s")


def test_the_clock_here_is_the_same_clock(dut: Dut) -> None:
    bound = dut.clock_bound(30)
    assert bound.pings == 30
    assert abs(bound.offset_s) <= bound.bound_s < 0.05


def test_the_ring_shows_what_the_log_says(dut: Dut, ring: RingReader) -> None:
    ring.read_new()
    done = _busy(dut, 2, batches=21)
    assert (done.run_id, done.batches, done.batch, done.images) == ("r1", 21, 1, 21)
    records = ring.read_new()
    assert [lines for _, lines in records[:2]] == [WORK_BIT, 0]  # loading and warming up
    del records[:2]
    edges = [GATE_BIT if index % 2 == 0 else GATE_BIT | BATCH_BIT for index in range(22)]
    assert [lines for _, lines in records] == [*edges, edges[-1] & BATCH_BIT]
    times = [t_ns for t_ns, _ in records]
    rise_before, rise_after, fall_before, fall_after = done.gate_ns
    assert rise_before <= times[0] <= rise_after
    assert fall_before <= times[-1] <= fall_after
    for index, stamp in enumerate(done.batch_ns):
        assert stamp <= times[1 + index]  # the stamp is just before its edge
        assert times[1 + index] <= (*done.batch_ns[1:], fall_before)[index]
    assert all(seconds >= 0.002 for seconds in done.batch_times_s)
    assert sum(done.batch_times_s) <= 1.001 * done.run_s
    assert done.run_s <= 1.001e-9 * (fall_after - rise_before)
    assert 0 < done.facts["usage"]["user_s"] < 1.1 * done.run_s + 0.02


def test_the_agent_rests_after_the_gate_where_it_is_asked_to_and_says_so(dut: Dut) -> None:
    assert _busy(dut).quiet_s == 0
    for k in range(20):
        dut.go(f"rest {k}", 5, quiet_after_s=0.3)
        done = dut.wait_done(60)
        if done.quiet_s:  # else others have used the machine when the rest was to begin, and it does not count
            break
    assert time.monotonic_ns() - done.gate_ns[3] > 0.3e9
    assert done.quiet_s == 0.3
    dut.go("r3", 5, quiet_after_s=1e6)
    with pytest.raises(DutRefusedError, match="quiet_after_s"):
        dut.wait_done(60)


def test_runs_can_be_repeated_and_the_batch_line_goes_on_where_it_was(dut: Dut, ring: RingReader) -> None:
    ready = dut.prepare("BUSY:5", 4, run_s=0.1, max_batches=7)
    assert (ready.batches, ready.images, ready.network) == (7, 28, "busy:5")
    ring.read_new()
    for run_id in ("a", "b"):
        dut.go(run_id)
        assert dut.wait_done(60).run_id == run_id
    lines = [lines for _, lines in ring.read_new()]
    assert len(lines) == 2 * 9
    assert lines[8] == lines[9] & BATCH_BIT == BATCH_BIT
    dut.go("c", 1)
    dut.wait_done(60)
    dut.close()
    lines = [lines for _, lines in ring.read_new()]
    assert lines == [GATE_BIT, GATE_BIT | BATCH_BIT, BATCH_BIT, 0]


def test_the_number_of_batches_fills_the_run(dut: Dut) -> None:
    ready = dut.prepare("busy:4", 1, run_s=0.2)
    assert ready.batches == int(0.2 / ready.batch_time_s)
    assert ready.batch_time_s >= 0.004
    assert 0.2 <= ready.warmup_s < 3.0 + 5 * max(ready.facts["warmup_batch_s"])  # the last one begins before the limit
    assert dut.prepare("busy:30", 1, run_s=0.01).batches == 1


def test_the_warm_up_keeps_its_limit(dut: Dut) -> None:
    ready = dut.prepare("busy:40", 1, warmup_s=0.1)
    assert not ready.settled
    assert ready.facts["warmup_batches"] <= 3  # the fewest that could settle
    assert dut.prepare("busy:40", 1, warmup_s=0).warmup_batches == 1


def test_a_network_in_torch(dut: Dut, ring: RingReader) -> None:
    ready = dut.prepare("resnet-18", 2, run_s=0.3, threads=1, warmup_s=2.0)
    assert (ready.network, ready.threads, ready.device) == ("ResNet-18", 1, "cpu")
    assert ready.facts["cached"] is False
    ring.read_new()
    dut.go("r")
    done = dut.wait_done(60)
    assert len(ring.read_new()) == done.batches + 2
    assert done.images == 2 * done.batches
    assert done.facts["memory"]["process_peak_rss"] > 4 * 11_689_512
    assert ready.size == networks.size("ResNet-18")
    assert (ready.mode, ready.weights, ready.facts["input"]) == (Mode(), "random", [3, 224, 224])

    assert dut.prepare("ResNet-18", 1, warmup_s=0.3).facts["cached"] is True
    with pytest.raises(DutRefusedError, match=r"CUDA|cuda") as refusal:
        dut.prepare("ResNet-18", 1, device="cuda")
    assert refusal.value.code == "bad_request"


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"network": "LeNet"}, "unknown_network", "known: AlexNet, .*busy:MILLISECONDS"),
        ({"network": "resnet18"}, "unknown_network", "did you mean ResNet-18"),
        ({"network": "busy:"}, "unknown_network", "write busy:MILLISECONDS"),
        ({"network": "busy:-1"}, "unknown_network", "above 0"),
        ({"network": "busy:nan"}, "unknown_network", "above 0"),
        ({"batch": 0}, "bad_request", "batch 0 is not within 1 to 65536"),
        ({"batch": -3}, "bad_request", "batch"),
        ({"batch": 10**30}, "bad_request", "batch"),
        ({"run_s": 0}, "bad_request", "run_s"),
        ({"run_s": 1e9}, "bad_request", "run_s"),
        ({"max_batches": 0}, "bad_request", "max_batches"),
        ({"seed": -1}, "bad_request", "seed"),
        ({"threads": 100_000}, "bad_request", "threads"),
        ({"warmup_s": -1}, "bad_request", "warmup_s"),
        ({"device": "tpu"}, "bad_request", "not auto, cpu or cuda"),
        ({"mode": Mode("fp8")}, "bad_request", "dtype 'fp8' is none of fp32, fp16, bf16, int8"),
        ({"mode": Mode("fp16")}, "bad_request", "'busy:1' at batch 1: it takes no mode"),
        ({"weights": "w.pth"}, "bad_request", "'busy:1' at batch 1: it takes no --weights"),
        ({"device": "cuda"}, "bad_request", "'busy:1' at batch 1: it runs on the CPU only"),
        (
            {"network": "AlexNet", "mode": Mode(cuda_graphs=True), "device": "cpu"},
            "bad_request",
            "'AlexNet' at batch 1: it cannot run in mode fp32 cuda_graphs: CUDA graphs need a CUDA device",
        ),
    ],
)
def test_senseless_requests_are_refused_and_the_agent_lives_on(
    shared: Dut, changed: dict[str, object], code: str, said: str
) -> None:
    request = {"network": "busy:1", "batch": 1, "warmup_s": 0.01, **changed}
    with pytest.raises(DutRefusedError, match=said) as refusal:
        shared.prepare(**request)  # type: ignore[arg-type]
    assert refusal.value.code == code
    assert shared.alive
    assert shared.prepare("busy:1", 1, warmup_s=0.01).batches > 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Dut]:
    with Dut.start(AGENT, ENV) as dut:
        yield dut


def test_go_is_refused_for_absurd_counts_and_needs_a_network(shared: Dut) -> None:
    shared.prepare("busy:1", 1, warmup_s=0.01)
    for batches in (0, -1, 10**7):
        shared.go("r", batches)
        with pytest.raises(DutRefusedError, match="batches, not 1 to"):
            shared.wait_done(60)
    with pytest.raises(DutRefusedError):
        shared.prepare("nothing", 1)
    with pytest.raises(DutError, match="no network is prepared"):
        shared.go("r")
    with pytest.raises(DutError, match=r"cannot be told 'go'.*in state 'idle'"):
        shared.go("r", 3)
    assert shared.alive


def test_no_memory_is_a_refusal_of_its_own(shared: Dut) -> None:
    with pytest.raises(DutRefusedError, match=r"input alone takes \d+ MB") as refusal:
        shared.prepare("Inception-v4", 65536)
    assert refusal.value.code == "out_of_memory"


def test_no_memory_in_the_middle_of_a_network_is_one_too() -> None:
    tight = "dut_host.available_bytes = lambda: 300 << 20\nsys.exit(dut_agent.main([]))"
    with Dut.start(_script(tight), ENV) as dut:
        with pytest.raises(DutRefusedError, match=r"allocate|memory") as refusal:
            dut.prepare("AlexNet", 32, warmup_s=0)
        assert refusal.value.code == "out_of_memory"
        assert dut.prepare("busy:1", 1, warmup_s=0).batches > 0


def test_a_network_that_fails_is_told_with_its_reason() -> None:
    broken = (
        "class Broken(dut_runner.BusyRunner):\n"
        "    calls = 0\n"
        "    def run(self):\n"
        "        self.calls += 1\n"
        "        if self.calls > int(os.environ['FAIL_AT']): raise ValueError('no such luck')\n"
        "dut_runner.BusyRunner = Broken\n"
        "sys.exit(dut_agent.main([]))"
    )
    with Dut.start(_script(broken), {**ENV, "FAIL_AT": "0"}) as dut:
        with pytest.raises(DutRefusedError, match="ValueError: no such luck") as refusal:
            dut.prepare("busy:1", 1)
        assert refusal.value.code == "failed"
    with Dut.start(_script(broken), {**ENV, "FAIL_AT": "3"}) as dut:
        dut.prepare("busy:1", 1, warmup_s=0)
        dut.go("r", 20)
        with pytest.raises(DutError, match="reports an error: ValueError: no such luck"):
            dut.wait_done(60)
        assert dut.alive
        assert dut.clock_bound(1).pings == 1


def test_a_run_that_turns_out_slow_ends_at_its_limit(dut: Dut, ring: RingReader) -> None:
    dut.prepare("busy:10", 2, warmup_s=0)
    dut.go("r", 1000, limit_s=0.05)
    done = dut.wait_done(60)
    assert 1 <= done.batches <= 5  # each of them takes 10 ms or more
    assert sum(done.batch_times_s[:-1]) < 0.05
    assert done.images == 2 * done.batches
    assert len(done.batch_ns) == done.batches
    assert not _last_lines(ring) & GATE_BIT


@pytest.mark.parametrize("limit_s", [0.0, -1.0, 1e9])
def test_a_limit_that_is_no_time_is_refused(dut: Dut, limit_s: float) -> None:
    dut.prepare("busy:1", 1, warmup_s=0)
    dut.go("r", 2, limit_s=limit_s)
    with pytest.raises(DutError, match="limit_s"):
        dut.wait_done(60)


# ------------------------------------------------------------------------------------- faults and ends


def test_stray_prints_cannot_break_the_frames() -> None:
    noisy = (
        "class Noisy(dut_runner.BusyRunner):\n"
        "    def run(self):\n"
        "        print('noise'); os.write(1, b'\\xffJB1 noise\\n'); super().run()\n"
        "dut_runner.BusyRunner = Noisy\n"
        "sys.exit(dut_agent.main([]))"
    )
    with Dut.start(_script(noisy), ENV) as dut:
        assert _busy(dut).batches == 20


def test_a_login_banner_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    with Dut.start(_script("print('Welcome to the board', flush=True)\nsys.exit(dut_agent.main([]))"), ENV) as dut:
        assert _busy(dut).batches == 20
    assert "Welcome to the board" in caplog.text


def test_bytes_that_are_no_frame_end_the_conversation_after_the_hello() -> None:
    rogue = (
        "plain = dut_agent._write_all\n"
        "def write(fd, data): plain(fd, data if b'hello' in data else b'rubbish' + data)\n"
        "dut_agent._write_all = write\n"
        "sys.exit(dut_agent.main([]))"
    )
    with Dut.start(_script(rogue), ENV) as dut:
        with pytest.raises(DutError, match=r"no message.*rubbish"):
            dut.clock_bound(1)
        assert not dut.alive
        with pytest.raises(DutError, match="cannot go on"):
            dut.prepare("busy:1", 1)


def test_a_killed_agent_is_reported_with_its_signal_and_command(dut: Dut) -> None:
    dut.prepare("busy:50", 1, warmup_s=0)
    dut.go("r", 100)
    os.kill(dut.hello().pid, signal.SIGKILL)
    with pytest.raises(DutError, match=r"ended where 'done/refused' was due.*dut_agent --marker.*killed by SIGKILL"):
        dut.wait_done(60)
    assert not dut.alive


def test_an_agent_that_dies_shows_its_last_words() -> None:
    with pytest.raises(DutError, match=r"exit code 5, its standard error ends:\n  .*the disk is on fire"):
        Dut.start(_script("sys.stderr.write('the disk is on fire\\n'); sys.exit(5)"), ENV)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(DutError, match="cannot start the DUT agent `/no/such/agent --x`"):
        Dut.start(["/no/such/agent", "--x"])


def test_an_agent_that_says_nothing_is_given_up() -> None:
    start = time.monotonic()
    with pytest.raises(DutError, match=r"said no 'hello' within 0.3 s.*still running"):
        Dut.start(["sleep", "60"], deadline_s=0.3)
    assert time.monotonic() - start < 30


def test_a_wait_that_is_too_short_breaks_the_conversation(dut: Dut) -> None:
    dut.prepare("busy:50", 1, warmup_s=0)
    dut.go("r", 10)
    with pytest.raises(DutError, match=r"said no 'done/refused' within 0.05 s"):
        dut.wait_done(0.05)
    with pytest.raises(DutError, match="start it again"):
        dut.go("r2", 1)


def test_another_version_is_refused() -> None:
    other = "from instruments import dut_protocol\ndut_protocol.VERSION = 99\nsys.exit(dut_agent.main([]))"
    with pytest.raises(DutError, match="speaks protocol version 99 and this bench 2"):
        Dut.start(_script(other), ENV)


def test_lines_that_cannot_be_had_end_the_agent_at_once(tmp_path: Path) -> None:
    with pytest.raises(DutError, match=r"exit code 2.*\n.*cannot open serial port"):
        Dut.start([*AGENT, "--marker", "serial:/dev/no-such-port"], ENV)


def test_a_closed_dut_says_so(dut: Dut) -> None:
    dut.close()
    dut.close()
    assert not dut.alive
    with pytest.raises(DutError, match="was closed"):
        dut.clock_bound()


# --------------------------------------------------------------------- the agent's end, without `Dut`


def _raw_agent(ring_path: Path) -> subprocess.Popen[bytes]:
    command = [*AGENT, "--marker", f"simulated:{ring_path}"]
    environment = {**os.environ, **ENV}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0)


_PREPARE = {
    "type": "prepare",
    "network": "busy:100",
    "batch": 1,
    "run_s": 1,
    "max_batches": 100,
    "seed": 0,
    "threads": 0,
    "warmup_s": 0,
    "device": "auto",
    "mode": Mode().as_json(),
    "weights": "random",
}


def _say(process: subprocess.Popen[bytes], *messages: dict[str, object]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"".join(dut_protocol.encode(message) for message in messages))


def _hear(process: subprocess.Popen[bytes], count: int) -> list[dict[str, object]]:
    assert process.stdout is not None
    decoder, events = dut_protocol.Decoder(), []
    while len(events) < count:
        data = os.read(process.stdout.fileno(), 65536)
        assert data, "the agent left"
        events += decoder.feed(data)
    assert not any(isinstance(event, dut_protocol.Garbage) for event in events)
    return events  # type: ignore[return-value]


def _wait_for_gate(ring: RingReader) -> None:
    until = time.monotonic() + 60
    while not any(lines & GATE_BIT for _, lines in ring.read_new()):
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("how", "code"), [("input closes", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_the_gate_is_low_whatever_ends_the_agent(
    tmp_path: Path, ring: RingReader, how: str | signal.Signals, code: int
) -> None:
    with _raw_agent(tmp_path / "ring") as process:
        _say(
            process,
            {"type": "hello", "version": dut_protocol.VERSION},
            _PREPARE,
            {"type": "go", "run_id": "r", "batches": 4, "limit_s": 60},
        )
        _wait_for_gate(ring)
        assert process.stdin is not None
        if isinstance(how, signal.Signals):
            process.send_signal(how)
        else:
            process.stdin.close()
        assert process.wait(200) == code
    assert _last_lines(ring) == 0


def test_what_is_slow_to_take_down_does_not_keep_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    slow = "import atexit, runpy, time\natexit.register(time.sleep, 90)\nsys.argv = ['agent', '--marker', 'none']\n"
    with Dut.start(_script(slow + "runpy.run_module('experiments.dut_agent', run_name='__main__')"), ENV) as dut:
        _busy(dut)
        began_s = time.monotonic()
        dut.close(grace_s=40.0)
        assert time.monotonic() - began_s < 40.0
    assert caplog.text == ""


def test_corrupt_and_misplaced_messages_are_answered_and_survived(tmp_path: Path) -> None:
    with _raw_agent(tmp_path / "ring") as process:
        assert process.stdin is not None
        process.stdin.write(b"hello?\n")
        assert "no frame starts here" in str(_hear(process, 1)[0]["reason"])
        process.stdin.write(b"hello??\n")  # one complaint is enough
        _say(process, {"type": "boo"})
        assert "does not say 'boo'" in str(_hear(process, 1)[0]["reason"])
        broken = bytearray(dut_protocol.encode({"type": "hello", "version": dut_protocol.VERSION}))
        broken[-2] ^= 1
        process.stdin.write(bytes(broken))
        assert "check sum" in str(_hear(process, 1)[0]["reason"])
        _say(process, {"type": "go", "run_id": "r", "batches": 4, "limit_s": 60}, {"type": "clock", "n": "x"})
        reasons = [str(message["reason"]) for message in _hear(process, 2)]
        assert "in state 'new'" in reasons[0]
        assert "clock.n is 'x'" in reasons[1]
        _say(
            process,
            {"type": "hello", "version": dut_protocol.VERSION},
            {**_PREPARE, "batch": True},
            {**_PREPARE, "run_s": 10**400},
        )
        hello, wrong_type, too_large = _hear(process, 3)
        assert hello["type"] == "hello"
        assert "prepare.batch is True" in str(wrong_type["reason"])
        assert too_large["type"] == "refused"
        _say(process, {"type": "bye"})
        assert process.wait(200) == 0


def test_the_agent_is_described_on_the_command_line() -> None:
    result = subprocess.run(
        [*AGENT, "--help"], capture_output=True, text=True, check=True, timeout=200, env={**os.environ, **ENV}
    )
    assert "gpio:CHIP:GATE,BATCH" in result.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("d['run_id'] = 'yesterday'", "was to do run and batches"),
        ("d['batches'] = 7", "was to do run and batches"),
        ("d['batch_ns'].pop()", "logged 4 stamps for 5 batches"),
        ("d['batch_ns'][2] -= 10**9", "go back in time"),
        ("d['gate_ns'][3] = 'later'", "no time stamp"),
        ("d['gate_ns'].pop()", "no time stamp"),
    ],
)
def test_a_log_that_cannot_be_that_run_is_refused(change: str, said: str) -> None:
    wrong = (
        "go = dut_agent.Agent._go\n"
        "def wrong(self, request):\n"
        f"    d = go(self, request); {change}; return d\n"
        "dut_agent.Agent._go = wrong\n"
        "sys.exit(dut_agent.main([]))"
    )
    with Dut.start(_script(wrong), ENV) as dut:
        with pytest.raises(DutError, match=said):
            _busy(dut, 1, batches=5)
        assert not dut.alive
