"""Pieces in PyTorch: from crops on the device, and from whole clips by a DataLoader as in published systems.

Letters: b batch, n clips, s samples, f frequency bins, t frames. Settings are the report's.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

RATE_HZ, N_FFT, HOP, FRAMES, FLOOR = 16_000, 2046, 512, 32, 1e-6
CROP = (FRAMES - 1) * HOP + N_FFT
MAX_WEIGHT = 0.5


def compute_stft(samples: torch.Tensor, *, center: bool) -> torch.Tensor:
    """Return |STFT|: (b, s) -> (b, f, t)."""
    window = torch.hann_window(N_FFT, device=samples.device)
    return torch.stft(
        samples, N_FFT, HOP, window=window, center=center, pad_mode="constant", return_complex=True
    ).abs()  # fmt: skip


def make_pieces(magnitude: torch.Tensor, height: int) -> torch.Tensor:
    """Pool, take the logarithm and standardise: (b, f, t) -> (b, 1, height, t)."""
    b, f, t = magnitude.shape
    values = magnitude.reshape(b, height, f // height, t).mean(2).clamp_min(FLOOR).log()
    values = values - values.mean((1, 2), keepdim=True)
    return (values / values.std((1, 2), keepdim=True, correction=0).clamp_min(1e-5))[:, None]


class Batch:
    """Mixed samples under pieces (b, s), classes of both clips (b,), and the second clip's weights (b,)."""

    def __init__(self, samples: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> None:
        self.samples, self.a, self.b, self.weight = samples, a, b, weight


class Resident:
    """Clips on the device, padded with half a window of zeros, from which batches are drawn and mixed there."""

    def __init__(self, clips: int, seconds: float, classes: int, device: torch.device) -> None:
        samples = int(seconds * RATE_HZ)
        waves = torch.randint(-3000, 3000, (clips, samples), dtype=torch.int16, device=device)
        padded = torch.nn.functional.pad(waves, (N_FFT // 2, N_FFT // 2))
        self.under_pieces = padded.unfold(1, CROP, HOP)  # (n, starts, s), a view, so crops are copied as whole blocks
        self.classes, self.device = classes, device

    def crops(self, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return int16 crops (b, s) of both clips, their classes and the second's weight."""
        clips, starts, _ = self.under_pieces.shape
        clips_per_class = clips // self.classes
        a = torch.randint(self.classes, (batch,), device=self.device)
        b = (a + torch.randint(1, self.classes, (batch,), device=self.device)) % self.classes
        start = torch.randint(starts, (batch,), device=self.device)
        cut = [
            self.under_pieces[k * clips_per_class + torch.randint(clips_per_class, (batch,), device=self.device), start]
            for k in (a, b)
        ]
        return cut[0], cut[1], a, b, MAX_WEIGHT * torch.rand(batch, device=self.device)

    def draw(self, batch: int) -> Batch:
        """Draw and mix a batch."""
        first, second, a, b, weight = self.crops(batch)
        w = weight[:, None]
        return Batch((1 - w) * (first.float() / 32768) + w * (second.float() / 32768), a, b, weight)


def make_training_pieces(batch: Batch, height: int) -> torch.Tensor:
    """Return the pieces (b, 1, height, t) of a batch."""
    return make_pieces(compute_stft(batch.samples, center=False), height)


class WholeClips(Dataset):
    """Random pieces of the spectrograms of mixes of two whole clips, which librosa reads from disk."""

    def __init__(self, folder: str, height: int) -> None:
        self.paths = sorted(Path(folder).rglob("*.wav"))
        self.class_of = [int(path.name.split("_")[1]) for path in self.paths]
        self.height = height

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int, int, float]:
        j = random.choice([j for j, k in enumerate(self.class_of) if k != self.class_of[i]])
        a, b = (self._load(self.paths[which]) for which in (i, j))
        weight = MAX_WEIGHT * random.random()
        magnitude = compute_stft(((1 - weight) * a + weight * b)[None], center=True)
        begin = random.randint(0, magnitude.shape[-1] - FRAMES)
        piece = make_pieces(magnitude[..., begin : begin + FRAMES], self.height)[0]
        return piece, self.class_of[i], self.class_of[j], weight

    @staticmethod
    def _load(path: Path) -> torch.Tensor:
        import librosa  # not installed for the other measurements

        return torch.from_numpy(librosa.load(path, sr=None)[0])


def load_batches(folder: str, height: int, batch: int, workers: int) -> Iterator[list[torch.Tensor]]:
    """Yield batches without end: pieces (b, 1, f, t), classes of both clips, weights."""
    clips = WholeClips(folder, height)
    sampler = torch.utils.data.RandomSampler(clips, replacement=True, num_samples=10**9)
    return iter(
        DataLoader(
            clips,
            batch,
            sampler=sampler,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context="spawn",
            persistent_workers=True,
        )
    )
