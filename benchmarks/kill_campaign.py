"""Kill `dvc repro` at random moments until it is complete, again and again; its weights must be those of a run left alone.

    python -m benchmarks.kill_campaign --kills 200 --log kills.jsonl
    python -m benchmarks.kill_campaign --kills 0 --log kills.jsonl       # only the table

A round is a fresh clone in which the same command is killed and typed again until it succeeds. Every kill is a line of the log:
when, what, with which signal, and what was found afterwards. Several campaigns may write to one log. Linux only: processes are
found in /proc.
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
import yaml

from ssd_lib.checkpoint.file import CHECKPOINTS, LAST, PREVIOUS, read_checkpoint
from ssd_lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
MARK = "KILL_CAMPAIGN"  # in the environment of every process that a campaign starts
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"source": "coco2017", "splits": ["train", "val"]},
    "model": {"image_size": 128, "width_mult": 0.35},
    "train": {"epochs": 12, "batch_size": 4, "precision": "fp32", "augmentation": "ssd", "ema_decay": 0.9, "ap_every_epochs": 4,
              "checkpoint_minutes": 0.02},
    "runtime": {"device": "cpu", "workers": 2, "processes": 1},
}
COMMANDS = {"dvc repro": 3, "dvc exp run": 1}  # with weights
SHELLS = {"/bin/sh": 1, "/bin/bash": 1}  # in which DVC runs a stage: one may stay between the two, one give its place away
MOMENTS = {"anywhere": 4, "in training": 4, "while saving": 2}
TARGETS = {"group": 3, "dvc": 2, "trainer": 3, "loader": 1}
SIGNALS = {"SIGKILL": 2, "SIGTERM": 1, "SIGINT": 1}
ANYWHERE_S, IN_TRAINING_S = 20.0, 4.0  # how long after the start, or after training begins, a kill comes at most
IGNORED_S, ORPHAN_S = 30.0, 60.0  # a loader process heeds SIGTERM after 20 s


def main() -> None:
    """Read the command line, run rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    parser.add_argument("--seed", type=int, default=1)
    default = Path(os.environ.get("SSD_SHARED_DATA", ROOT.parent / "shared" / "data")) / "coco-mirror"
    parser.add_argument("--mirror", type=Path, default=default, help="a folder in the layout of the COCO server")
    options = parser.parse_args()
    if options.kills:
        with serve(options.mirror) as url, tempfile.TemporaryDirectory() as folder:
            campaign(Path(folder), url, options.kills, options.log, random.Random(options.seed))
    print(table([json.loads(line) for line in options.log.read_text().splitlines()]))


def campaign(folder: Path, url: str, kills: int, log: Path, dice: random.Random) -> None:
    """Run rounds in `folder` until there were so many kills."""
    calm = clone(folder / "calm", url)
    begin = time.monotonic()
    expect(start(calm, "dvc repro", "/bin/sh").wait() == 0, calm)
    expected = weights_hash(calm)
    print(f"a run left alone takes {time.monotonic() - begin:.0f} s, weights {expected[:16]}", flush=True)
    done = round_number = 0
    while done < kills:
        round_number += 1
        how = {"command": draw(dice, COMMANDS), "shell": draw(dice, SHELLS)}
        place = clone(folder / f"round-{round_number}", url)
        rows = list(one_round(place, dice, **how))
        same = weights_hash(place) == expected
        done += len(rows)
        with log.open("a") as file:
            file.writelines(json.dumps({**row, **how, "same_weights": same}) + "\n" for row in rows)
        print(f"round {round_number}: {' in '.join(how.values())}, {len(rows)} kills, weights "
              f"{'equal' if same else 'DIFFERENT'}; {done}/{kills}", flush=True)
        expect(same, place)
        subprocess.run(["rm", "-rf", str(place)], check=True)


def one_round(place: Path, dice: random.Random, command: str, shell: str) -> Iterator[dict[str, Any]]:
    """Type the command until it succeeds; a row for each kill."""
    position = (0, 0)
    while True:
        process = start(place, command, shell)
        killed: dict[str, Any] | None = None
        while process.poll() is None:
            target, name = draw(dice, TARGETS), draw(dice, SIGNALS)
            moment = "in training" if target == "loader" else draw(dice, MOMENTS)
            if (target, name) == ("loader", "SIGINT") or not await_moment(process, place, moment, dice):
                continue
            position = max(position, found(place) or (0, 0))
            if strike(process, place, target, name):
                killed = {"moment": moment, "target": target, "signal": name, "at": position}
                gone(process, place, IGNORED_S)  # or not: dvc alone leaves Ctrl-C to its stage
        code = process.wait()
        if code == 0:
            return
        expect(killed is not None, place)
        orphans = [] if gone(process, place, ORPHAN_S) else marked(place)
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        now = found(place)
        yield {**(killed or {}), "exit": code, "orphans": len(orphans), "lost": position > (now or (0, 0)), "found": now}
        position = max(position, now or (0, 0))


def clone(place: Path, url: str) -> Path:
    """A fresh clone of the project with small settings, committed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    path = place / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for group, values in SETTINGS.items():
        tree[group].update(values)
    tree["data"]["base_url"] = url
    path.write_text(yaml.safe_dump(tree))
    for arguments in (["add", "--all"], ["commit", "--quiet", "--message", "campaign"]):
        subprocess.run(["git", "-c", "user.name=campaign", "-c", "user.email=campaign@example.org", *arguments], cwd=place,
                       check=True)
    return place


def start(place: Path, command: str, shell: str) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; what it prints is in place/../NAME.log."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    environment |= {MARK: str(place), "SHELL": shell, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1",
                    "DVC_SITE_CACHE_DIR": f"{place}.dvc",
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with Path(f"{place}.log").open("ab") as log:
        log.write(f"$ {command}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", *command.split()], cwd=place, env=environment, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=heed_ctrl_c)


def heed_ctrl_c() -> None:
    """Undo what a shell's `&` does to its processes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def await_moment(process: subprocess.Popen[bytes], place: Path, moment: str, dice: random.Random) -> bool:
    """Wait for a moment of that kind; False if the command ended first."""
    if moment == "anywhere":
        return sleep(process, dice.uniform(0, ANYWHERE_S))
    while process.poll() is None:
        if loaders(place):
            break
        time.sleep(0.1)
    if not sleep(process, dice.uniform(0, IN_TRAINING_S)):
        return False
    while moment == "while saving" and process.poll() is None:
        if list((place / CHECKPOINTS).glob(".*.tmp")):
            break
        time.sleep(0.001)
    return process.poll() is None


def sleep(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Let time pass; whether the command still runs."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


def strike(process: subprocess.Popen[bytes], place: Path, target: str, name: str) -> bool:
    """Send the signal; False if there is no such process at present."""
    number = signal.Signals[name]
    with suppress(ProcessLookupError):
        if target == "group":
            os.killpg(process.pid, number)
        elif target == "dvc":
            os.kill(process.pid, number)
        else:
            pids = loaders(place) if target == "loader" else trainers(place)
            if not pids:
                return False
            os.kill(pids[0], number)
        return True
    return False


def gone(process: subprocess.Popen[bytes], place: Path, seconds: float) -> bool:
    """Whether all processes of the command end within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None and not marked(place):
            return True
        time.sleep(0.1)
    return False


def marked(place: Path) -> list[int]:
    """The living processes of the command."""
    wanted, pids = f"{MARK}={place}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes() and "\nState:\tZ" not in (folder / "status").read_text():
                pids.append(int(folder.name))
    return pids


def parent_of(pid: int) -> int:
    """Of a process; 0 if it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def trainers(place: Path) -> list[int]:
    """The process that trains."""
    training = [pid for pid in marked(place) if is_trainer(pid)]
    return [pid for pid in training if parent_of(pid) not in training]


def loaders(place: Path) -> list[int]:
    """Its loader processes."""
    training = [pid for pid in marked(place) if is_trainer(pid)]
    return [pid for pid in training if parent_of(pid) in training]


def is_trainer(pid: int) -> bool:
    """Whether it is `python -m stages.train`, or a fork of it."""
    with suppress(OSError):
        return b"-m\0stages.train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def found(place: Path) -> tuple[int, int] | None:
    """The latest position in a checkpoint that can be read, in the folder or in the journal."""
    positions = []
    for path in [*(place / CHECKPOINTS).glob("*.pt"), *(place / "runs" / "resume").glob("*/*.pt")]:
        if path.name in (LAST, PREVIOUS):
            with suppress(InputError):
                positions.append(read_checkpoint(path).position)
    return max(positions, default=None)


def weights_hash(place: Path) -> str:
    """Of the final weights, bit for bit."""
    weights = torch.load(place / "models" / "ssd.pt", weights_only=True)["weights"]
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def draw(dice: random.Random, weighted: dict[str, int]) -> str:
    """One of the keys, by weight."""
    return dice.choices(list(weighted), list(weighted.values()))[0]


def expect(is_so: bool, place: Path) -> None:
    """Stop the campaign, and show what was printed."""
    if not is_so:
        said = Path(f"{place}.log").read_text()[-4000:]
        sys.exit(f"{said}\nFAILED in {place.name}: a command that nobody killed must succeed, with the same weights")


@contextmanager
def serve(mirror: Path) -> Iterator[str]:
    """A server on loopback over the photographs."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def table(rows: list[dict[str, Any]]) -> str:
    """Kills by target and signal, by moment, by command; and what was found afterwards."""
    lines = ["| target | SIGKILL | SIGTERM | SIGINT |", "|---|---|---|---|"]
    count = Counter((row["target"], row["signal"]) for row in rows)
    lines += [f"| {target} | " + " | ".join(str(count[target, name]) for name in SIGNALS) + " |" for target in TARGETS]
    for key in ("moment", "command", "shell"):
        lines.append("")
        lines += [f"{name}: {number} kills" for name, number in Counter(row[key] for row in rows).most_common()]
    lost, orphans, other = (sum(bool(value(row)) for row in rows) for value in (
        lambda row: row["lost"], lambda row: row["orphans"], lambda row: not row["same_weights"]))
    lines += ["", f"{len(rows)} kills; {lost} lost a checkpoint, {orphans} left an orphan, {other} led to other weights"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
