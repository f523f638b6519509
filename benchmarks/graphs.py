"""Milliseconds of ONNX files in ONNX Runtime, of any origin, in turns: the graph alone, on one image of noise.

    python -m benchmarks.graphs models/ssd.onnx models/int8/ssd.onnx ../other.onnx --threads 1 2

The size of the input is fixed; its batch may be free. What a graph holds differs: NMS in some, the decoding of boxes in most.
Medians are printed.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

REST_S = 0.05  # before a call: the threads of the session before it spin for some milliseconds


def main() -> None:
    """Measure every file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    sessions = {(file, threads): open_session(file, threads) for file in options.files for threads in options.threads}
    times: dict[tuple[Path, int], list[float]] = {key: [] for key in sessions}
    for turn in range(options.rounds + 2):
        for key, session in sessions.items():
            pixels = {entry.name: noise(entry) for entry in session.get_inputs()}
            session.run(None, pixels)  # what ran before fills the caches
            time.sleep(REST_S)
            begin = time.perf_counter()
            session.run(None, pixels)
            if turn > 1:
                times[key].append(time.perf_counter() - begin)
    print(f"ms, median of {options.rounds} calls, ONNX Runtime {onnxruntime.__version__}\n")
    print(f"| file | MB | {' | '.join(f'threads: {threads}' for threads in options.threads)} |")
    print(f"|---|---|{'---|' * len(options.threads)}")
    for file in options.files:
        cells = [f"{1000 * median(times[file, threads]):.1f}" for threads in options.threads]
        print(f"| {file} | {file.stat().st_size / 1e6:.1f} | {' | '.join(cells)} |")


def open_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """Return the file in ONNX Runtime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def noise(entry: onnxruntime.NodeArg) -> np.ndarray:
    """Return an image for an input, float32 in [0, 1]; a free batch is one image."""
    shape = [side if isinstance(side, int) else 1 for side in entry.shape]
    return np.random.default_rng(0).random(shape, dtype=np.float32)


if __name__ == "__main__":
    main()
