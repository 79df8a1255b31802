"""Train a small one-step restorer from scratch; stopped at any time and started again, it resumes.

    python training/train.py training/mini.toml --data ../shared/faces/train --run training/runs/mini

Every stage of the TOML file trains some parts of the pipeline on some losses. The run folder holds a resumable state
and, per stage, a log (`log_<stage>.csv`), images of held-out faces (`<stage>_<step>.png`: degraded, restored, clean)
and an ordinary checkpoint with the averaged weights (`<stage>.safetensors`).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from averaging import averaged
from data import load_faces, split, to_tensor
from losses import PatchDiscriminator, hinge, weighted_mean
from model import begin_from, part
from objectives import Outcome, Stage, compute, seed_codebook
from pairs import Pairs
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from quantface_core.degrade import degrade
from quantface_core.errors import QuantFaceError
from quantface_core.io.atomic import atomic_path, write_text
from quantface_core.io.checkpoint import save_restorer
from quantface_core.io.tables import read_toml
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer


class StageTrainer:
    """Trains the stages of a configuration one after the other in a run folder."""

    def __init__(self, config: dict, data: Path, run: Path, device: str, start: Path | None = None) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.run, self.device = config, run, torch.device(device)
        self.train_faces, held = split(load_faces(data))
        self.held_faces = held[:12]  # enough to follow a run; benchmarks use whole sets
        model = begin_from(start) if start else OneStepRestorer(QUANTFACE_MINI)
        self.model, self.discriminator = model.to(self.device), PatchDiscriminator().to(self.device)
        for network in (self.model, self.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run.mkdir(parents=True, exist_ok=True)

    def begin(self, stage: Stage) -> None:
        """Prepare the model as the stage says, and start it."""
        if stage.seed_codebook:
            self.seed_codebook()
        if stage.reset_output:
            for tensor in self.model.unet.conv_out.parameters():
                torch.nn.init.zeros_(tensor)
        self.start(stage)

    def start(self, stage: Stage) -> None:
        """Fresh optimizers and averages for the parts that a stage trains."""
        self.model.requires_grad_(False).eval()
        for name in stage.train:
            part(self.model, name).requires_grad_(True).train()
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.average = averaged(self.model, 0.999)
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=stage.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.discriminator_optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=4e-4, betas=(0.5, 0.99))

    def train_discriminator(self, outcome: Outcome) -> float:
        """One step of the discriminator; returns its loss."""
        assert outcome.clean is not None
        assert outcome.restored is not None
        with self.autocast():
            real, fake = self.discriminator(outcome.clean), self.discriminator(outcome.restored.detach())
            loss = hinge(real.float(), fake.float(), outcome.texture)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return float(loss.detach())

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, stage: Stage, step: int, clean: Tensor, degraded: Tensor) -> dict[str, float]:
        torch.manual_seed(self.config["seed"] + step)
        rate = min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        sharp, damaged = (
            to_tensor(x.numpy()).to(self.device, memory_format=torch.channels_last) for x in (clean, degraded)
        )
        adversarial = bool(stage.loss.get("adversarial"))
        self.discriminator.requires_grad_(False)
        with self.autocast():
            outcome = compute(self.model, stage, sharp, damaged, np.random.default_rng((self.config["seed"], step)))
            terms = outcome.terms
            if adversarial:
                assert outcome.restored is not None
                logits = self.discriminator(outcome.restored).float().mean((1, 2, 3))
                terms["adversarial"] = -weighted_mean(logits, outcome.texture)
        total = torch.as_tensor(sum(terms[name] * weight for name, weight in stage.loss.items()))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.discriminator.requires_grad_(True)
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), 1.0)
        if not torch.isfinite(total) or not torch.isfinite(norm):  # before the weights, which are saved every few steps
            raise QuantFaceError(f"{stage.name} diverged at step {step + 1}: choose a lower learning rate")
        self.optimizer.step()
        logged = {name: float(value.detach()) for name, value in terms.items()}
        if adversarial:
            logged["discriminator"] = self.train_discriminator(outcome)
        self.average.update_parameters(self.model)
        return logged

    def seed_codebook(self) -> None:
        """Set the embedder's codes from degraded training faces."""
        degraded = np.stack([degrade(face, 5000 + i) for i, face in enumerate(self.train_faces[:64])])
        seed_codebook(self.model.eval(), to_tensor(degraded).to(self.device), self.config["seed"])

    @torch.no_grad()
    def validate(self, stage: Stage, step: int) -> float:
        """Mean PSNR in dB over the held-out faces; writes an image of them."""
        clean = to_tensor(self.held_faces).to(self.device)
        degraded = to_tensor(np.stack([degrade(f, 1000 + i) for i, f in enumerate(self.held_faces)])).to(self.device)
        model, source = self.average.module.eval(), clean if stage.task == "autoencode" else degraded
        assert isinstance(model, OneStepRestorer)
        with self.autocast():
            chunks = [model.decode(model.encode(x)) if source is clean else model(x) for x in source.split(8)]
        restored = torch.cat(chunks).float().clamp(-1, 1)
        error = ((restored - clean) / 2).square().mean((1, 2, 3))
        rows = torch.stack([degraded, restored, clean])[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        picture = ((rows.cpu() + 1) * 127.5).round().byte().numpy()
        Image.fromarray(picture).save(self.run / f"{stage.name}_{step:05d}.png")
        return float((-10 * error.log10()).mean())

    def save(self, stage: Stage, step: int) -> None:
        state = {
            "stage": stage.name,
            "step": step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "scaling": self.model.vae.config.scaling_factor,
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }
        with atomic_path(self.run / "state.pt") as temporary:
            torch.save(state, temporary)

    def resume(self, stages: list[Stage]) -> tuple[int, int]:
        """(stage index, step) to resume from; loads the saved state if there is one."""
        file = self.run / "state.pt"
        if not file.exists():
            self.begin(stages[0])
            return 0, 0
        state = torch.load(file, weights_only=True, map_location=self.device)
        index = [s.name for s in stages].index(state["stage"])
        self.model.load_state_dict(state["model"])
        self.model.vae.register_to_config(scaling_factor=state["scaling"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.start(stages[index])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        return index, state["step"]

    def finish(self, stage: Stage) -> None:
        """Adopt the averaged weights, set the latent to unit variance after an autoencoder stage, and save them."""
        self.model.load_state_dict(self.average.module.state_dict())
        if stage.task == "autoencode":
            self.model.eval()
            sample = to_tensor(self.train_faces[:64]).to(self.device)
            with torch.no_grad():
                latent = torch.cat([self.model.posterior(x)[0].mode() for x in sample.split(8)])
            self.model.vae.register_to_config(scaling_factor=round(1 / float(latent.std()), 5))
        vae = {**self.model.config.vae, "scaling_factor": self.model.vae.config.scaling_factor}
        self.model.config = replace(self.model.config, vae=vae)
        save_restorer(self.model, self.run / f"{stage.name}.safetensors", dtype=torch.float16)

    def log(self, stage: Stage, step: int, values: dict[str, float]) -> None:
        with (self.run / f"log_{stage.name}.csv").open("a", newline="") as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{v:.5f}" for v in values.values())])

    def unlog(self, stage: Stage, done: int) -> None:
        """Drop the rows of steps that a stopped run took after its last state: they are taken again."""
        log = self.run / f"log_{stage.name}.csv"
        if log.exists():
            head, *rows = log.read_text().splitlines()
            write_text(log, "\n".join([head, *(row for row in rows if int(row.split(",")[0]) < done), ""]))

    def run_all(self) -> None:
        stages = [Stage(**s) for s in self.config["stage"]]
        first, done = self.resume(stages)
        self.unlog(stages[first], done)
        for index in range(first, len(stages)):
            if index > first:
                self.begin(stages[index])
                done = 0
            self.run_stage(stages[index], self.config["seed"] + index, done)
            self.finish(stages[index])

    def run_stage(self, stage: Stage, seed: int, done: int) -> None:
        """Train a stage to its end, from the step after the `done` first ones; `seed` is its data's."""
        pairs = Pairs(self.train_faces, stage, seed)
        rest = torch.utils.data.Subset(pairs, range(done * stage.batch, len(pairs)))
        workers = 1 if self.device.type == "cpu" else 12
        began, loader = time.time(), DataLoader(rest, batch_size=stage.batch, num_workers=workers)
        for step, (clean, degraded) in enumerate(loader, done):
            values = self.step(stage, step, clean, degraded)
            if step % 10 == 0:
                self.log(stage, step, {**values, "seconds": time.time() - began})
            if (step + 1) % self.config["validate_every"] == 0 or step + 1 == stage.steps:
                print(f"{stage.name} {step + 1}/{stage.steps} {self.validate(stage, step + 1):.3f} dB", flush=True)
            if (step + 1) % self.config["save_every"] == 0:
                self.save(stage, step + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of aligned training faces")
    parser.add_argument("--run", type=Path, required=True, help="folder for states, logs and images")
    parser.add_argument("--start", type=Path, help="a checkpoint to start from instead of random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    StageTrainer(read_toml(args.config, "stages"), args.data, args.run, args.device, args.start).run_all()


if __name__ == "__main__":
    main()
