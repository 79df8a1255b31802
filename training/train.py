"""Train a small one-step restorer from scratch; stop it at any time, start it again, it resumes.

    python training/train.py training/mini.toml --data ../shared/faces/train --run training/runs/mini

Every stage of the TOML file trains some parts of the pipeline on some losses. The run folder holds a
resumable state, a log (`log.csv`), and a picture of held-out faces (`<stage>_<step>.png`: degraded,
restored, clean). Its end product is `quantface-mini.safetensors`, an ordinary checkpoint.
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
import tomllib
import torch
from data import Pairs, load_faces, split, to_tensor
from losses import PatchDiscriminator, hinge, weighted_mean
from objectives import Outcome, Stage, compute, seed_codebook
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from quantface_core.degrade import degrade
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer


def part(model: OneStepRestorer, name: str) -> torch.nn.Module:
    """A part of the pipeline by the name a stage gives it."""
    if name == "decoder":
        return torch.nn.ModuleList([model.vae.post_quant_conv, model.vae.decoder])
    return model.embedder.projection if name == "projection" else model.get_submodule(name)


def begin_from(path: Path) -> OneStepRestorer:
    """A finished model to train on; one without feature paths gets fresh ones, which change nothing yet.

    One that decodes whole pictures starts with no change at all: the last convolution begins at zero.
    """
    finished = load_restorer(path)
    model = OneStepRestorer(replace(finished.config, feature_paths=True, residual=True))
    missing, _ = model.load_state_dict(finished.state_dict(), strict=False)
    if any(not name.startswith("paths.") for name in missing):
        raise SystemExit(f"{path}: no {missing[0]}")
    if not finished.config.residual:
        torch.nn.init.zeros_(model.vae.decoder.conv_out.weight)
        torch.nn.init.zeros_(model.vae.decoder.conv_out.bias)
    return model


class Trainer:
    def __init__(self, config: dict, data: Path, run: Path, device: str, start: Path | None = None) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.run, self.device = config, run, torch.device(device)
        self.train_faces, held = split(load_faces(data))
        self.held_faces = held[:12]  # enough to follow a run; whole sets are the benchmark's
        model = begin_from(start) if start else OneStepRestorer(QUANTFACE_MINI)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.judge = PatchDiscriminator().to(self.device, memory_format=torch.channels_last)
        self.average: dict[str, Tensor] = {}
        run.mkdir(parents=True, exist_ok=True)

    # -- one stage ---------------------------------------------------------------------------------
    def start(self, stage: Stage) -> None:
        """Fresh optimizers and a fresh average for the parts that learn."""
        self.model.requires_grad_(False).eval()
        for name in stage.train:
            part(self.model, name).requires_grad_(True).train()
        self.learning = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.average = {n: p.detach().clone() for n, p in self.learning.items()}
        groups = list(self.learning.values())
        self.optimizer = torch.optim.AdamW(
            groups, lr=stage.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.judge_optimizer = torch.optim.AdamW(self.judge.parameters(), lr=4e-4, betas=(0.5, 0.99))

    def teach_judge(self, outcome: Outcome) -> float:
        """One step of the discriminator; returns its loss."""
        with self.autocast():
            real, fake = self.judge(outcome.clean), self.judge(outcome.restored.detach())
            loss = hinge(real.float(), fake.float(), outcome.texture)
        self.judge_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.judge_optimizer.step()
        return float(loss.detach())

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, stage: Stage, step: int, clean: np.ndarray, degraded: np.ndarray) -> dict[str, float]:
        torch.manual_seed(self.config["seed"] + step)
        rate = min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        pair = (to_tensor(x.numpy()).to(self.device, memory_format=torch.channels_last) for x in (clean, degraded))
        adversarial = bool(stage.loss.get("adversarial"))
        self.judge.requires_grad_(False)
        with self.autocast():
            outcome = compute(self.model, stage, *pair, np.random.default_rng((self.config["seed"], step)))
            terms = outcome.terms
            if adversarial:
                look = self.judge(outcome.restored).float().mean((1, 2, 3))
                terms["adversarial"] = -weighted_mean(look, outcome.texture)
        total = sum(terms[name] * weight for name, weight in stage.loss.items())
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.judge.requires_grad_(True)
        torch.nn.utils.clip_grad_norm_(list(self.learning.values()), 1.0)
        self.optimizer.step()
        logged = {name: float(value.detach()) for name, value in terms.items()}
        if adversarial:
            logged["judge"] = self.teach_judge(outcome)
        decay = min(0.999, (step + 1) / (step + 10))
        averages, weights = list(self.average.values()), [p.detach() for p in self.learning.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay)
        return logged

    def seed_codebook(self) -> None:
        """Set the embedder's codes from degraded training faces."""
        degraded = np.stack([degrade(face, 5000 + i) for i, face in enumerate(self.train_faces[:64])])
        seed_codebook(self.model.eval(), to_tensor(degraded).to(self.device), self.config["seed"])

    # -- looking ------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def averaged(self):
        """The model with its averaged weights, for looking and for keeping."""
        raw = {n: p.detach().clone() for n, p in self.learning.items()}
        state = dict(self.model.named_parameters())
        with torch.no_grad():
            for n, value in self.average.items():
                state[n].copy_(value)
            training = {m: m.training for m in self.model.modules()}
            self.model.eval()
            yield self.model
            for m, was in training.items():
                m.training = was
            for n, value in raw.items():
                state[n].copy_(value)

    def validate(self, stage: Stage, step: int) -> float:
        """Mean PSNR in dB over the held-out faces; writes their picture."""
        clean = to_tensor(self.held_faces).to(self.device)
        degraded_images = np.stack([degrade(f, 1000 + i) for i, f in enumerate(self.held_faces)])
        degraded = to_tensor(degraded_images).to(self.device)
        with self.averaged() as model, self.autocast():
            source = clean if stage.task == "autoencode" else degraded
            chunks = [self.show(model, stage, x) for x in source.split(8)]
        restored = torch.cat(chunks).float().clamp(-1, 1)
        error = ((restored - clean) / 2).square().mean((1, 2, 3))
        rows = torch.stack([degraded, restored, clean])[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        picture = ((rows.cpu() + 1) * 127.5).round().byte().numpy()
        Image.fromarray(picture).save(self.run / f"{stage.name}_{step:05d}.png")
        return float((-10 * error.log10()).mean())

    def show(self, model: OneStepRestorer, stage: Stage, x: Tensor) -> Tensor:
        return model.decode(model.encode(x)) if stage.task == "autoencode" else model(x)

    # -- keeping ------------------------------------------------------------------------------------
    def save(self, stage: Stage, step: int) -> None:
        state = {
            "stage": stage.name,
            "step": step,
            "model": self.model.state_dict(),
            "average": self.average,
            "scaling": self.model.vae.config.scaling_factor,
            "judge": self.judge.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "judge_optimizer": self.judge_optimizer.state_dict(),
        }
        torch.save(state, self.run / "state.tmp")
        (self.run / "state.tmp").replace(self.run / "state.pt")

    def resume(self, stages: list[Stage]) -> tuple[int, int]:
        """(stage index, step) to go on from."""
        file = self.run / "state.pt"
        if not file.exists():
            self.start(stages[0])
            return 0, 0
        state = torch.load(file, weights_only=True, map_location=self.device)
        index = [s.name for s in stages].index(state["stage"])
        self.model.load_state_dict(state["model"])
        self.model.vae.register_to_config(scaling_factor=state["scaling"])
        self.judge.load_state_dict(state["judge"])
        self.start(stages[index])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.judge_optimizer.load_state_dict(state["judge_optimizer"])
        return index, state["step"]

    def finish(self, stage: Stage) -> None:
        """Adopt the averaged weights; after the autoencoder, set the latent's scale to unit variance."""
        with torch.no_grad():
            state = dict(self.model.named_parameters())
            for name, value in self.average.items():
                state[name].copy_(value)
            if stage.task == "autoencode":
                self.model.eval()
                sample = to_tensor(self.train_faces[:64]).to(self.device)
                latent = torch.cat([self.model.posterior(x)[0].mode() for x in sample.split(8)])
                self.model.vae.register_to_config(scaling_factor=round(1 / float(latent.std()), 5))
        vae = {**self.model.config.vae, "scaling_factor": self.model.vae.config.scaling_factor}
        config = replace(self.model.config, vae=vae)
        save_restorer(self.model, self.run / f"{stage.name}.safetensors", config=config, dtype=torch.float16)

    def log(self, stage: Stage, step: int, values: dict[str, float]) -> None:
        file = self.run / f"log_{stage.name}.csv"
        new = not file.exists()
        with file.open("a", newline="") as f:
            writer = csv.writer(f)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{v:.5f}" for v in values.values())])

    def run_all(self) -> None:
        stages = [Stage(**s) for s in self.config["stage"]]
        first, done = self.resume(stages)
        for index in range(first, len(stages)):
            stage = stages[index]
            if index > first:
                if stage.seed_codebook:
                    self.seed_codebook()
                if stage.reset_output:
                    torch.nn.init.zeros_(self.model.unet.conv_out.weight)
                    torch.nn.init.zeros_(self.model.unet.conv_out.bias)
                self.start(stage)
                done = 0
            pairs = Pairs(
                self.train_faces, self.config["seed"] + index, stage.steps * stage.batch, stage.mild, stage.severity
            )
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
            self.finish(stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of aligned training faces")
    parser.add_argument("--run", type=Path, required=True, help="folder for states, logs and pictures")
    parser.add_argument("--start", type=Path, help="a checkpoint to start from instead of random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    Trainer(tomllib.loads(args.config.read_text()), args.data, args.run, args.device, args.start).run_all()


if __name__ == "__main__":
    main()
