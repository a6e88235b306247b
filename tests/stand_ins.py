"""Recording stand-ins of gcloud, kubectl, xpk, sbatch, srun, scontrol, gcsfuse and mountpoint.

Every call is written to $STAND_INS/calls.jsonl. gcloud keeps virtual slices: a host is a folder,
`ssh` runs the command in it, and a slice marked `preempted` is out of reach. The queue's answers
come from `queue_states`. SLURM runs the submitted job until it is not queued again.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(os.environ["STAND_INS"])


def option(words: list[str], name: str, default: str = "") -> str:
    return next((word.split("=", 1)[1] for word in words if word.startswith(name + "=")), default)


def gcloud(words: list[str]) -> int:
    group, verb, rest = words[2], words[3], words[4:]
    slices = HERE / "slices"
    if verb == "create":
        name = rest[0]
        count = int(option(rest, "--node-count", "0"))
        for node in [f"{name}-{i}" for i in range(count)] or [name]:
            for worker in range(int(os.environ["HOSTS_PER_SLICE"])):
                host = slices / node / str(worker)
                bin_dir = host / ".local" / "bin"
                bin_dir.mkdir(parents=True)
                shutil.copy(HERE / "uv", bin_dir / "uv")
        states = HERE / "queue_states"
        shutil.copy(states, HERE / "queue")
    elif verb == "delete":
        shutil.rmtree(slices)
        (HERE / "queue").unlink()
    elif verb == "list":
        if not slices.exists():
            return 0
        if group == "queued-resources":
            states = (HERE / "queue").read_text().split()
            (HERE / "queue").write_text(" ".join(states[1:] or states))
            print(states[0])
        else:
            for node in sorted(slices.iterdir()):
                print("PREEMPTED" if (node / "preempted").exists() else "READY")
    elif verb == "scp":
        node, path = rest[1].split(":")
        for host in hosts(slices / node):
            shutil.copy(rest[0], host / path)
    elif verb == "ssh":
        node, command = slices / rest[0], option(rest, "--command")
        worker = option(rest, "--worker")
        if (node / "preempted").exists():
            return 255
        breaks, broke = HERE / "connection_breaks", HERE / "connection_broke"
        if command.endswith("follow") and breaks.exists():
            breaks.rename(broke)
            return 255
        if command.endswith("follow") and broke.exists():
            broke.rename(HERE / "connection_is_back")
        chosen = hosts(node) if worker == "all" else [node / worker]
        shells = [
            subprocess.Popen(
                ["bash", "-c", command],
                cwd=host,
                env=os.environ
                | {
                    "HOME": str(host),
                    "HOSTNAME": f"{node.name}-{host.name}",
                    "ECHOFM_BUCKETS": str(host / "gcs"),
                },
            )
            for host in chosen
        ]
        return max([shell.wait() for shell in shells])
    return 0


def hosts(node: Path) -> list[Path]:
    return sorted(path for path in node.iterdir() if path.is_dir())


def sbatch(words: list[str]) -> int:
    script = next(i for i, word in enumerate(words) if not word.startswith("-"))
    for restart in range(10):
        environment = os.environ | {
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": option(words, "--job-name"),
            "SLURM_RESTART_COUNT": str(restart),
        }
        done = subprocess.run(
            words[script:], cwd=option(words, "--chdir"), env=environment, check=False
        )
        requeue = HERE / "requeue"
        if not requeue.exists():
            return done.returncode
        requeue.unlink()
    raise RuntimeError("queued again for ever")


def srun(words: list[str]) -> int:
    if (HERE / "job_is_preempted").exists():
        os.kill(os.getppid(), signal.SIGTERM)
    start = next(i for i, word in enumerate(words) if not word.startswith("-"))
    tasks = [
        subprocess.run(words[start:], env=os.environ | {"SLURM_PROCID": str(task)}, check=False)
        for task in range(2)
    ]
    return max(task.returncode for task in tasks)


def main() -> int:
    program, words = Path(sys.argv[0]).name, sys.argv[1:]
    stdin = sys.stdin.read() if program == "kubectl" else ""
    with (HERE / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"call": [program, *words], "stdin": stdin}) + "\n")
    if program == "scontrol":
        assert re.fullmatch("requeue 7", " ".join(words))
        (HERE / "requeue").touch()
        return 0
    if program == "mountpoint":
        return 0 if (Path(words[-1]) / "mounted").exists() else 1
    if program == "gcsfuse":
        if not (HERE / "no_bucket").exists():
            (Path(words[-1]) / "mounted").touch()
        return (HERE / "no_bucket").exists()
    return {"gcloud": gcloud, "sbatch": sbatch, "srun": srun}.get(program, lambda _: 0)(words)


sys.exit(main())
