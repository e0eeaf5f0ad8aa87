"""A Slurm cluster of one node on the loopback device, for the tests that need a real one.

`python -m tests.helpers.slurm_cluster FOLDER` starts it, prints `export SLURM_CONF=...` and runs
until it is interrupted. Needs root and Debian's `slurm-wlm` and `munge`, and no systemd.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "munge", "unmunge", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

# Two partitions: jobs of `high` push those of `low` back into the queue.
CONF = """\
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES MaxTime=60 State=UP PriorityTier=1 \
PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=localhost Default=NO MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Why no cluster can be started here, or None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)} (apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting slurmd needs root"
    return None


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it, and stop it in the end.

    Yields:
        Environment variables by which Slurm's commands find it.

    Raises:
        RuntimeError: with the end of the logs, if it does not come up.
    """
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(
            folder=folder, host=platform.node(), cores=max(2, os.cpu_count() or 2),
            ctld_port=free_port(), d_port=free_port(),
        )
    )  # fmt: skip
    environment = {"SLURM_CONF": str(conf), "MUNGE_SOCKET": f"{folder}/munge/socket"}
    with ExitStack() as stack:
        try:
            stack.enter_context(_munged(folder))
            _until(lambda: _munge_answers(folder), "munged")
            stack.enter_context(_daemon(["slurmctld", "-D", "-f", str(conf)], folder, environment))
            _until(lambda: "localhost" in _ask("sinfo", environment), "slurmctld")
            stack.enter_context(
                _daemon(["slurmd", "-D", "-N", "localhost", "-f", str(conf)], folder, environment)
            )
            _until(lambda: "idle" in _ask("sinfo", environment), "slurmd")
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{_logs(folder)}") from error
        try:
            yield environment
        finally:
            _end_jobs(environment)


def _end_jobs(environment: dict[str, str]) -> None:
    """Without slurmd nobody would end what still runs."""
    found = {**os.environ, **environment}
    subprocess.run(["scancel", "--user", str(os.geteuid())], env=found, capture_output=True)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if len(_ask("squeue", environment).splitlines()) <= 1:  # the heading
            return
        time.sleep(0.2)


@contextmanager
def _munged(folder: Path) -> Iterator[None]:
    """A munge daemon of its own, with a key of its own."""
    home = folder / "munge"
    home.chmod(0o755)
    key = home / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    command = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={home}/socket",
        f"--pid-file={home}/pid", f"--log-file={home}/log", f"--seed-file={home}/seed",
    ]  # fmt: skip
    with _daemon(command, folder, {}):
        yield


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _munge_answers(folder: Path) -> bool:
    socket_option = f"--socket={folder}/munge/socket"
    made = subprocess.run(["munge", "--no-input", socket_option], capture_output=True)
    read = subprocess.run(["unmunge", socket_option], input=made.stdout, capture_output=True)
    return made.returncode == 0 and read.returncode == 0


def _ask(command: str, environment: dict[str, str]) -> str:
    answer = subprocess.run(
        [command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    return answer.stdout


def _until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not come up within {seconds:.0f} s")
        time.sleep(0.2)


def _logs(folder: Path) -> str:
    tails = []
    for path in [*folder.glob("*.log"), *folder.glob("*.out"), folder / "munge" / "log"]:
        if path.exists():
            tails.append(f"--- {path.name}\n{path.read_text()[-1500:]}")
    return "\n".join(tails)


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    reason = why_not()
    if reason is not None or len(sys.argv) != 2:
        sys.exit(reason or __doc__)
    with cluster(Path(sys.argv[1]).resolve()) as variables:
        for name, value in variables.items():
            print(f"export {name}={value}", flush=True)
        try:
            while True:
                time.sleep(60)
        except KeyboardInterrupt:
            pass
