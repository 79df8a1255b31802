"""Several processes end with the weights of one that has all of their images."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.fitting import SETTINGS, experts, fitted

ROOT = Path(__file__).resolve().parents[2]
_WORKER = """
import json, os, sys
from tests.train.fitting import SETTINGS, experts, fitted
from dataclasses import replace
trainer, parameters = fitted(replace(SETTINGS, batch_size=2))
found = dict(losses=trainer.losses, scores=trainer.scores, weight=parameters["weight"].tolist(), experts=experts(1))
found["processes"] = float(trainer.state()["settings.processes"])
open(sys.argv[1] + os.environ["RANK"], "w").write(json.dumps(found))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two found."""
    folder = tmp_path_factory.mktemp("processes")
    script, result = folder / "worker.py", folder / "result"
    script.write_text(_WORKER)
    # `--multi_gpu` names the launcher of any processes on one machine, as torchrun does; `--cpu` starts just one.
    start = ["--multi_gpu", "--num_processes=2", f"--main_process_port={_free_port()}", str(script), str(result)]
    here = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    here = {name: value for name, value in here.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    command = [sys.executable, "-m", "accelerate.commands.launch", *start]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"result{rank}").read_text()) for rank in range(2)]


def test_two_processes_do_what_one_does_with_twice_the_batch(two_processes: list[dict]) -> None:
    one, parameters = fitted(replace(SETTINGS, batch_size=4))
    for two in two_processes:
        assert two["losses"] == pytest.approx(one.losses, rel=1e-5)
        for found, wanted in zip(two["scores"], one.scores, strict=True):
            assert found == pytest.approx(wanted, rel=1e-4)
        assert two["weight"] == pytest.approx(parameters["weight"].tolist(), rel=1e-4)
        assert two["processes"] == 2


def test_processes_whose_images_reach_other_layers_end_with_the_weights_of_one(two_processes: list[dict]) -> None:
    one = experts(2)
    assert one["third"] == [1.0]  # no decay without a gradient
    for two in two_processes:
        for name, values in one.items():
            assert two["experts"][name] == pytest.approx(values, rel=1e-5)
