"""The trainer's work in PyTorch, as a server that `asdjax bench --against torch` compares itself with.

asdjax starts it with the interpreter in $TORCH_PYTHON. It reads one JSON object a line from standard input and answers
each with one on standard output. Everything printed goes to standard error. The first answer describes the server.
"""

import gc
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from math import cos, pi, sin
from time import perf_counter
from typing import Any

import torch
import torch_backbones
import torch_signal
from torch import nn
from torch.nn import functional
from torch_signal import Batch

MARGIN, SCALE, LEARNING_RATE, MOMENTUM = 0.05, 30.0, 0.05, 0.9

# Ways to run a network: as written, by torch.compile, and by torch.compile with CUDA graphs, which need no host.
EAGER, COMPILED, REPLAYED = "eager", "compiled", "compiled and replayed"

# PyTorch's advice for GPUs. It is the faster layout on x86, too.
LAYOUT = torch.channels_last


class ArcFace(nn.Module):
    """Cosines to class centres, and their loss with an angular margin on the target (radians)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(classes, torch_backbones.EMBEDDING))
        nn.init.xavier_uniform_(self.weights)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.normalize(embeddings.float()), functional.normalize(self.weights))

    @staticmethod
    def loss(cosine: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sine = (1 - cosine.square()).clamp_min(1e-7).sqrt()
        with_margin = cosine * cos(MARGIN) - sine * sin(MARGIN)
        with_margin = torch.where(cosine > cos(pi - MARGIN), with_margin, cosine - MARGIN * sin(MARGIN))
        is_target = functional.one_hot(target, cosine.shape[1]).bool()
        return functional.cross_entropy(SCALE * torch.where(is_target, with_margin, cosine), target, reduction="none")


class Learner:
    """One variant: its backbone, class centres and optimiser."""

    def __init__(self, variant: str, classes: int, way: str, device: torch.device) -> None:
        self.height, self.device = torch_backbones.read_height(variant), device
        self.backbone = torch_backbones.build(variant).to(device, memory_format=LAYOUT)
        self.parameters = sum(p.numel() for p in self.backbone.parameters())
        self.head = ArcFace(classes).to(device)
        weights = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(weights, LEARNING_RATE, MOMENTUM, fused=device.type == "cuda" or None)
        mode = "reduce-overhead" if way == REPLAYED else None
        self.run = self.backbone if way == EAGER else torch.compile(self.backbone, dynamic=False, mode=mode)

    def embed(self, pieces: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext():
            return self.run(pieces.contiguous(memory_format=LAYOUT))

    def step(self, pieces: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        cosine = self.head(self.embed(pieces))
        loss = ((1 - weight) * self.head.loss(cosine, a) + weight * self.head.loss(cosine, b)).mean()
        loss.backward()
        self.optimizer.step()

    def train(self, batch: Batch) -> None:
        self.step(torch_signal.make_training_pieces(batch, self.height), batch.a, batch.b, batch.weight)


class Peer:
    """A server: the models and audio that were prepared last, and a method for each request."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.learners: list[Learner] = []
        self.batches: Any = None

    def describe(self) -> dict[str, Any]:
        """Return the versions, the device and the ways to run."""
        return {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "librosa": bool(find_spec("librosa")),
            "ways": [EAGER, COMPILED, REPLAYED] if self.device.type == "cuda" else [EAGER],
        }

    def prepare(
        self, variants: list[str], batch: int, way: str = EAGER, clips: int = 192, seconds: float = 10, classes: int = 6
    ) -> dict[str, Any]:
        """Make models and audio and warm them up; return each model's number of parameters."""
        self._release()
        self.batch = batch
        self.audio = torch_signal.Resident(clips, seconds, classes, self.device)
        self.learners = [Learner(v, classes, way, self.device) for v in variants]
        for learner in self.learners:
            learner.backbone.train()
        self.train(3 if self.device.type == "cuda" else 1)
        return {
            "parameters": {v: learner.parameters for v, learner in zip(variants, self.learners, strict=True)},
        }

    def _release(self) -> None:
        self.learners, self.batches = [], None
        gc.collect()
        if self.device.type == "cuda":
            torch.compiler.reset()
            # six networks in training and in embedding; beyond the limit, by default 8, they would run eager
            torch._dynamo.config.recompile_limit = 64
            torch.cuda.empty_cache()

    def train(self, steps: int) -> dict[str, float]:
        """Return the seconds of `steps` training steps with all audio on the device."""
        return {"seconds": self._time(self._train_once, steps)}

    def _train_once(self) -> None:
        for learner in self.learners:
            learner.train(self.audio.draw(self.batch))

    def load(self, folder: str, workers: int) -> dict[str, Any]:
        """Read whole clips from the WAV files below a folder for `train_loaded`; only for one variant."""
        self.batches = torch_signal.load_batches(folder, self.learners[0].height, self.batch, workers)
        self.train_loaded(1)
        return {}

    def train_loaded(self, steps: int) -> dict[str, float]:
        """Return the seconds of `steps` training steps with clips read by `load`."""

        def once() -> None:
            pieces, *labels = (field.to(self.device, non_blocking=True) for field in next(self.batches))
            self.learners[0].step(pieces, *labels)

        return {"seconds": self._time(once, steps)}

    def unload(self) -> dict[str, Any]:
        """End the processes that read clips."""
        self.batches = None
        gc.collect()
        return {}

    def embed(self, pieces: int, batch: int, steps: int = 1) -> dict[str, float]:
        """Return the seconds to embed `pieces` pieces `steps` times, with one STFT for all models."""
        crops = torch.randint(-3000, 3000, (batch, torch_signal.CROP), dtype=torch.int16)
        for learner in self.learners:
            learner.backbone.eval()

        def once() -> None:
            samples = crops.to(self.device, non_blocking=True).float() / 32768
            magnitude = torch_signal.compute_stft(samples, center=False)
            for learner in self.learners:
                rows = learner.embed(torch_signal.make_pieces(magnitude, learner.height))
                functional.normalize(rows.float()).cpu()

        with torch.inference_mode():
            seconds = self._time(once, steps * -(-pieces // batch))
        for learner in self.learners:
            learner.backbone.train()
        return {"seconds": seconds}

    def signal(self, batch: int, steps: int, height: int = 1024) -> dict[str, float]:
        """Return the seconds to cut, mix and transform `steps` batches of crops."""
        if not hasattr(self, "audio"):
            self.audio = torch_signal.Resident(192, 10.0, 6, self.device)
        with torch.inference_mode():
            return {
                "seconds": self._time(lambda: torch_signal.make_training_pieces(self.audio.draw(batch), height), steps)
            }

    def _time(self, run: Callable[[], object], times: int) -> float:
        self._synchronize()
        begun = perf_counter()
        for _ in range(times):
            run()
        self._synchronize()
        return perf_counter() - begun

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def serve(threads: int) -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    peer = Peer()

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer(peer.describe())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(peer, request.pop("do"))(**request))
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    serve(int(sys.argv[1]))
