"""`python -m stages.train` for torchrun in a test; it sends itself the signal that KILL_AT names (see self_killing.py)."""

import os

from stages import runner, train
from support.self_killing import arm

if __name__ == "__main__":
    arm(os.environ["KILL_AT"])
    runner.run(train.main)
