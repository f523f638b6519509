"""Encoded videos for tests."""

from pathlib import Path

import cv2
import numpy as np

from ssd_lib.detect.video import open_video, read_frames

WIDTH, HEIGHT, FPS = 96, 64, 12.5


def make_video(path: Path, frames: int, codec: str = "mp4v", size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """Write a video; frame i is grey, 8 i modulo 200, with the same noise in all frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 40, (*size, 3)).astype(np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, size[::-1])
    for i in range(frames):
        writer.write(noise + np.uint8(8 * i % 200))
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    """Return all frames, RGB."""
    with open_video(path) as capture:
        return list(read_frames(capture))
