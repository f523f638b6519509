"""Kill `dvc repro` at random moments until it is complete; its final weights must equal those of an undisturbed run.

    python -m benchmarks.kill_campaign --kills 200 --log kills.jsonl
    python -m benchmarks.kill_campaign --kills 0 --log kills.jsonl       # only print the table of a log

A round is a fresh clone in which the same command is killed and started again until it succeeds. Every kill is a line of the
log: when, what, with which signal, and what was found afterwards. Several campaigns may append to one log. The images are those
of the demo, or of a folder with the paths of the COCO server. Linux only: processes are looked up in /proc.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from benchmarks.clone import environment, make_clone
from ssd_lib.checkpoint.file import CHECKPOINTS, LAST, PREVIOUS, read_checkpoint
from ssd_lib.demo.archives import make_archives
from ssd_lib.errors import InputError

MARK = "KILL_CAMPAIGN"  # in the environment of every process that a campaign starts
IMAGES = (80, 80)  # of the demo: train and val
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"source": "coco2017", "splits": ["train", "val"]},
    "model": {"net": "mb2-ssd-lite", "image_size": 128, "width_mult": 0.35, "backbone_weights": "none"},
    "train": {"epochs": 12, "batch_size": 4, "freeze": "none", "precision": "fp32", "augmentation": "ssd", "ema_decay": 0.9,
              "ap_every_epochs": 4, "checkpoint_minutes": 0.02},
    "export": {"int8": False},
    "runtime": {"device": "cpu", "workers": 2, "processes": 1},
}
COMMANDS = {"dvc repro": 3, "dvc exp run": 1}  # with weights
SHELLS = {"/bin/sh": 1, "/bin/bash": 1}  # DVC runs a stage in one: dash stays between the two, bash replaces itself
MOMENTS = {"anywhere": 4, "in training": 4, "while saving": 2}
TARGETS = {"group": 3, "dvc": 2, "trainer": 3, "loader": 1}
SIGNALS = {"SIGKILL": 2, "SIGTERM": 1, "SIGINT": 1}
ANYWHERE_S, IN_TRAINING_S = 20.0, 4.0  # how long after the start, or after training begins, a kill comes at most
IGNORED_S, ORPHAN_S = 30.0, 60.0  # a loader process may take 20 s to end after SIGTERM


def main() -> None:
    """Read the command line, run rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mirror", type=Path, metavar="FOLDER",
                        help="with the paths of the COCO server (zips/, annotations/); default: the demo's images")
    options = parser.parse_args()
    if options.kills > 0:
        with tempfile.TemporaryDirectory() as folder:
            if options.mirror is None:
                make_archives(Path(folder) / "mirror", *IMAGES)
            with serve(options.mirror or Path(folder) / "mirror") as url:
                campaign(Path(folder), url, options.kills, options.log, random.Random(options.seed))
    print(table(read_log(options.log)))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the kills of a log; a path that is not a log ends the program with a message."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        table(rows)
        return rows
    except (OSError, ValueError, TypeError, KeyError) as error:
        sys.exit(f"{path}: not a log of kills ({error}). Write one with: python -m benchmarks.kill_campaign --log {path}")


def campaign(folder: Path, url: str, kills: int, log: Path, rng: random.Random) -> None:
    """Run rounds in `folder` until there were this many kills."""
    settings = {**SETTINGS, "data": {**SETTINGS["data"], "base_url": url}}
    undisturbed = make_clone(folder / "undisturbed", settings)
    begin = time.monotonic()
    expect(start(undisturbed, "dvc repro", "/bin/sh").wait() == 0, undisturbed)
    expected = weights_hash(undisturbed)
    print(f"an undisturbed run takes {time.monotonic() - begin:.0f} s, weights {expected[:16]}", flush=True)
    done = round_number = 0
    while done < kills:
        round_number += 1
        how = {"command": draw(rng, COMMANDS), "shell": draw(rng, SHELLS)}
        clone = make_clone(folder / f"round-{round_number}", settings)
        rows = list(one_round(clone, rng, **how))
        same = weights_hash(clone) == expected
        done += len(rows)
        with log.open("a") as file:
            file.writelines(json.dumps({**row, **how, "same_weights": same}) + "\n" for row in rows)
        print(f"round {round_number}: {' in '.join(how.values())}, {len(rows)} kills, weights "
              f"{'equal' if same else 'DIFFERENT'}; {done}/{kills}", flush=True)
        expect(same, clone)
        subprocess.run(["rm", "-rf", str(clone)], check=True)


def one_round(clone: Path, rng: random.Random, command: str, shell: str) -> Iterator[dict[str, Any]]:
    """Start the command until it succeeds; yield a row for each kill."""
    position = (0, 0)
    while True:
        process = start(clone, command, shell)
        killed: dict[str, Any] | None = None
        while process.poll() is None:
            target, name = draw(rng, TARGETS), draw(rng, SIGNALS)
            moment = "in training" if target == "loader" else draw(rng, MOMENTS)
            if (target, name) == ("loader", "SIGINT") or not await_moment(process, clone, moment, rng):
                continue
            position = max(position, saved_position(clone) or (0, 0))
            if send(process, clone, target, name):
                killed = {"moment": moment, "target": target, "signal": name, "at": position}
                all_end(process, clone, IGNORED_S)  # or not: dvc alone leaves Ctrl-C to its stage
        code = process.wait()
        if code == 0:
            return
        expect(killed is not None, clone)
        orphans = [] if all_end(process, clone, ORPHAN_S) else processes_of(clone)
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        now = saved_position(clone)
        yield {**(killed or {}), "exit": code, "orphans": len(orphans), "lost": position > (now or (0, 0)), "found": now}
        position = max(position, now or (0, 0))


def start(clone: Path, command: str, shell: str) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; its output is appended to CLONE.log."""
    with Path(f"{clone}.log").open("ab") as log:
        log.write(f"$ {command}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", *command.split()], cwd=clone, stdout=log, stderr=log, start_new_session=True,
            env=environment(clone, SHELL=shell, OMP_NUM_THREADS="1", **{MARK: str(clone)}), preexec_fn=accept_ctrl_c)


def accept_ctrl_c() -> None:
    """Undo what a shell's `&` does to its processes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def await_moment(process: subprocess.Popen[bytes], clone: Path, moment: str, rng: random.Random) -> bool:
    """Wait for a moment of this kind; return False if the command ended first."""
    if moment == "anywhere":
        return sleep(process, rng.uniform(0, ANYWHERE_S))
    while process.poll() is None and not loaders(clone):
        time.sleep(0.1)
    if not sleep(process, rng.uniform(0, IN_TRAINING_S)):
        return False
    while moment == "while saving" and process.poll() is None and not list((clone / CHECKPOINTS).glob(".*.tmp")):
        time.sleep(0.001)
    return process.poll() is None


def sleep(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait this long, or until the command ends; return whether it still runs."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


def send(process: subprocess.Popen[bytes], clone: Path, target: str, name: str) -> bool:
    """Send the signal; return False if there is no such process at present."""
    number = signal.Signals[name]
    with suppress(ProcessLookupError):
        if target == "group":
            os.killpg(process.pid, number)
        elif target == "dvc":
            os.kill(process.pid, number)
        else:
            pids = loaders(clone) if target == "loader" else trainers(clone)
            if not pids:
                return False
            os.kill(pids[0], number)
        return True
    return False


def all_end(process: subprocess.Popen[bytes], clone: Path, seconds: float) -> bool:
    """Return whether all processes of the command end within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None and not processes_of(clone):
            return True
        time.sleep(0.1)
    return False


def processes_of(clone: Path) -> list[int]:
    """Return the living processes of the command."""
    wanted, pids = f"{MARK}={clone}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes() and "\nState:\tZ" not in (folder / "status").read_text():
                pids.append(int(folder.name))
    return pids


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if the process is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def trainers(clone: Path) -> list[int]:
    """Return the process that trains."""
    training = [pid for pid in processes_of(clone) if is_training(pid)]
    return [pid for pid in training if parent_of(pid) not in training]


def loaders(clone: Path) -> list[int]:
    """Return its loader processes."""
    training = [pid for pid in processes_of(clone) if is_training(pid)]
    return [pid for pid in training if parent_of(pid) in training]


def is_training(pid: int) -> bool:
    """Return whether this is `python -m stages.train`, or a fork of it."""
    with suppress(OSError):
        return b"-m\0stages.train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def saved_position(clone: Path) -> tuple[int, int] | None:
    """Return the latest position in a readable checkpoint, in models/checkpoints or in runs/resume."""
    positions = []
    for path in [*(clone / CHECKPOINTS).glob("*.pt"), *(clone / "runs" / "resume").glob("*/*.pt")]:
        if path.name in (LAST, PREVIOUS):
            with suppress(InputError):
                positions.append(read_checkpoint(path).position)
    return max(positions, default=None)


def weights_hash(clone: Path) -> str:
    """Return a hash of every bit of the final weights."""
    weights = torch.load(clone / "models" / "ssd.pt", weights_only=True)["weights"]
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def draw(rng: random.Random, weighted: dict[str, int]) -> str:
    """Return one of the keys, by weight."""
    return rng.choices(list(weighted), list(weighted.values()))[0]


def expect(is_true: bool, clone: Path) -> None:
    """Stop the campaign and show the end of the log if the condition does not hold."""
    if not is_true:
        output = Path(f"{clone}.log").read_text()[-4000:]
        sys.exit(f"{output}\nFAILED in {clone.name}: a command that was not killed must succeed, with the same weights")


@contextmanager
def serve(mirror: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1; yield the URL."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def table(rows: list[dict[str, Any]]) -> str:
    """Return kills by target and signal, by moment, by command and shell, and what was found afterwards."""
    lines = ["| target | SIGKILL | SIGTERM | SIGINT |", "|---|---|---|---|"]
    count = Counter((row["target"], row["signal"]) for row in rows)
    lines += [f"| {target} | " + " | ".join(str(count[target, name]) for name in SIGNALS) + " |" for target in TARGETS]
    for key in ("moment", "command", "shell"):
        lines.append("")
        lines += [f"{name}: {number} kills" for name, number in Counter(row[key] for row in rows).most_common()]
    lost, orphans = sum(row["lost"] for row in rows), sum(row["orphans"] > 0 for row in rows)
    other = sum(not row["same_weights"] for row in rows)
    lines += ["", f"{len(rows)} kills; {lost} lost a checkpoint, {orphans} left an orphan, {other} led to other weights"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
