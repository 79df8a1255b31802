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
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tomllib
import torch
import torch.nn.functional as F
from data import Pairs, load_faces, split, to_tensor
from losses import PatchDiscriminator, color_loss, frequency_loss, gradient_loss, hinge
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from quantface_core.degrade import degrade
from quantface_core.io.checkpoint import save_restorer
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer

LOG_VARIANCE = -6.0  # of the latent's posterior: a standard deviation of 0.05, beside a latent of about 1


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe; see mini.toml."""

    name: str
    task: str  # "autoencode" or "restore"
    train: list[str]  # parts of the pipeline that learn: vae, decoder, unet, embedder
    steps: int
    batch: int
    crop: int  # pixels, square; the face's full size = no cropping
    learning_rate: float  # peak, after warm-up; cosine to a twentieth
    loss: dict[str, float] = field(default_factory=dict)  # weight of each term; absent = 0
    mild: float = 0.2  # share of nearly clean inputs


def part(model: OneStepRestorer, name: str) -> torch.nn.Module:
    return {"vae": model.vae, "decoder": model.vae.decoder, "unet": model.unet, "embedder": model.embedder}[name]


def random_crop(images: list[Tensor], size: int, rng: np.random.Generator) -> list[Tensor]:
    """The same window of every tensor, on multiples of 4 pixels so that latents align."""
    top, left = (4 * rng.integers((side - size) // 4 + 1) for side in images[0].shape[-2:])
    return [x[..., top : top + size, left : left + size] for x in images]


class Trainer:
    def __init__(self, config: dict, data: Path, run: Path, device: str) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.run, self.device = config, run, torch.device(device)
        self.train_faces, self.held_faces = split(load_faces(data))
        self.model = OneStepRestorer(QUANTFACE_MINI).to(self.device, memory_format=torch.channels_last)
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
        self.optimizer = torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.judge_optimizer = torch.optim.AdamW(self.judge.parameters(), lr=2e-4, betas=(0.5, 0.99))

    def losses(self, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        if stage.task == "autoencode":
            return self.autoencode_losses(stage, clean, degraded, rng)
        return self.restore_losses(stage, clean, degraded, rng)

    def autoencode_losses(
        self, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        # One sample in five is a degraded face: the encoder will be fed those.
        mixed = torch.cat([degraded[: len(clean) // 5], clean[len(clean) // 5 :]])
        (image,) = random_crop([mixed], stage.crop, rng)
        posterior = self.model.vae.encode(image).latent_dist
        # With the KL term the latent is sampled, as it was published; without, its spread is set directly.
        latent = posterior.sample() if stage.loss.get("kl") else posterior.mode()
        terms = self.picture_losses(stage, self.model.vae.decode(latent).sample.float(), image)
        terms["kl"] = posterior.kl().float().sum() / len(clean)
        terms["spread"] = (
            posterior.logvar.float() - LOG_VARIANCE
        ).square().mean() + posterior.mean.float().square().mean()
        return terms

    def restore_losses(
        self, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        positions = self.model.embedder.positions(degraded)
        code, _ = self.model.embedder.nearest(positions)
        vectors = self.model.embedder.codebook(code)
        # VQ-VAE: codes move to the positions that chose them; positions commit to their code.
        moved, commit = F.mse_loss(vectors, positions.detach().float()), F.mse_loss(positions.float(), vectors.detach())
        terms["codes"] = moved + 0.25 * commit
        prompt = self.model.embedder.prompt(positions)
        clean, degraded = random_crop([clean, degraded], stage.crop, rng)
        with torch.no_grad():
            latent, target = (self.model.encode(x) for x in (degraded, clean))
        predicted = self.model.predict(latent, prompt)
        terms["latent"] = F.l1_loss(predicted, target.float())
        if set(stage.loss) <= {"latent", "codes"}:
            return terms
        # A quarter of the batch keeps the decoder a good autoencoder of clean faces.
        kept = len(clean) // 4 if "decoder" in stage.train else 0
        pictures = self.model.decode(torch.cat([predicted, target[:kept].float()])).float()
        if kept:
            terms["autoencode"] = F.l1_loss(pictures[len(clean) :], clean[:kept])
        restored = pictures[: len(clean)]
        terms |= self.picture_losses(stage, restored, clean)
        return terms

    def picture_losses(self, stage: Stage, restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
        terms = {
            "l1": F.l1_loss(restored, clean),
            "gradient": gradient_loss(restored, clean),
            "color": color_loss(restored, clean),
        }
        if stage.loss.get("frequency"):
            terms["frequency"] = frequency_loss(restored, clean)
        if stage.loss.get("adversarial"):
            terms["adversarial"] = -self.judge(restored).float().mean()
            self.judged = (clean, restored.detach())
        return terms

    def teach_judge(self) -> float:
        clean, restored = self.judged
        with self.autocast():
            loss = hinge(self.judge(clean).float(), self.judge(restored).float())
        self.judge_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.judge_optimizer.step()
        return float(loss)

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, stage: Stage, step: int, clean: np.ndarray, degraded: np.ndarray) -> dict[str, float]:
        torch.manual_seed(self.config["seed"] + step)
        rate = min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        pair = (to_tensor(x.numpy()).to(self.device, memory_format=torch.channels_last) for x in (clean, degraded))
        with self.autocast():
            terms = self.losses(stage, *pair, np.random.default_rng((self.config["seed"], step)))
        total = sum(terms[name] * weight for name, weight in stage.loss.items())
        self.optimizer.zero_grad(set_to_none=True)
        self.judge.requires_grad_(False)
        total.backward()
        self.judge.requires_grad_(True)
        torch.nn.utils.clip_grad_norm_(list(self.learning.values()), 1.0)
        self.optimizer.step()
        logged = {name: float(value.detach()) for name, value in terms.items()}
        if stage.loss.get("adversarial"):
            logged["judge"] = self.teach_judge()
        decay = min(0.999, (step + 1) / (step + 10))
        for name, parameter in self.learning.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        return logged

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
                latent = torch.cat([self.model.vae.encode(x).latent_dist.mode() for x in sample.split(8)])
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
                self.start(stage)
                done = 0
            pairs = Pairs(self.train_faces, self.config["seed"] + index, stage.steps * stage.batch, stage.mild)
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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    Trainer(tomllib.loads(args.config.read_text()), args.data, args.run, args.device).run_all()


if __name__ == "__main__":
    main()
