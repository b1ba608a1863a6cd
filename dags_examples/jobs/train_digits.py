"""Train a small neural network on the prepared digits: on the GPU if the worker has one, else on its CPU.

Parameters: `dataset` (artifact name), `epochs`, `hidden`, `seed`. Result: the model's artifact name, the device
it was trained on and the last loss. The model is plain arrays, whichever device made it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import titan_job

from titan_sdk import TitanClient

Layers = list[np.ndarray]
BATCH = 64


def find_device() -> tuple[str, str]:
    """Where to train, and the sentence that says so."""
    try:
        import torch
    except ImportError:
        return "cpu", "no GPU in use (this worker has no PyTorch): training on the CPU with scikit-learn"
    if torch.cuda.is_available():
        return "cuda", f"training on the GPU: {torch.cuda.get_device_name()}"
    return "cpu", "no GPU on this worker: training on its CPU with scikit-learn"


def train_on_cpu(x: np.ndarray, y: np.ndarray, epochs: int) -> Iterator[tuple[float, Layers]]:
    """One (loss, layers) per epoch."""
    from sklearn.neural_network import MLPClassifier

    seed = titan_job.params["seed"]
    network = MLPClassifier((titan_job.params["hidden"],), batch_size=BATCH, random_state=seed)
    for _ in range(epochs):
        network.partial_fit(x, y, classes=np.arange(10))
        yield network.loss_, [*network.coefs_, *network.intercepts_]


def train_with_torch(
    x: np.ndarray, y: np.ndarray, epochs: int, device: str
) -> Iterator[tuple[float, Layers]]:
    """The same network and the same optimiser, on `device`."""
    import torch
    from torch import nn

    torch.manual_seed(titan_job.params["seed"])
    first, second = (
        nn.Linear(x.shape[1], titan_job.params["hidden"]),
        nn.Linear(titan_job.params["hidden"], 10),
    )
    network = nn.Sequential(first, nn.ReLU(), second).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    images = torch.tensor(x, dtype=torch.float32, device=device)
    labels = torch.tensor(y, dtype=torch.long, device=device)
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels), device=device).split(BATCH):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
        weights = [tensor.detach().cpu().numpy() for tensor in (first.weight.T, second.weight.T)]
        biases = [tensor.detach().cpu().numpy() for tensor in (first.bias, second.bias)]
        yield total / len(labels), [*weights, *biases]


def report_progress(steps: Iterator[tuple[float, Layers]], epochs: int) -> tuple[float, Layers]:
    """Run all epochs, visibly; the last loss and layers."""
    last: tuple[float, Layers] = (float("nan"), [])
    for epoch, last in enumerate(steps, start=1):
        titan_job.progress(epoch / epochs, f"epoch {epoch}/{epochs}, loss {last[0]:.3f}")
        if epoch % 20 == 0 or epoch == epochs:
            print(f"epoch {epoch:3d}/{epochs}  loss {last[0]:.4f}")
    return last


def main() -> None:
    epochs = titan_job.params["epochs"]
    device, sentence = find_device()
    print(sentence)
    with tempfile.TemporaryDirectory() as folder, TitanClient() as client:
        dataset = client.fetch_artifact(titan_job.params["dataset"], Path(folder) / "digits.npz")
        with np.load(dataset) as digits:
            x, y = digits["train_x"], digits["train_y"]
        steps = train_on_cpu(x, y, epochs) if device == "cpu" else train_with_torch(x, y, epochs, device)
        loss, layers = report_progress(steps, epochs)
        # Left in the worker's folder on purpose: a job with affinity to this one finds it there.
        # The name carries the job's id, because artifacts and that folder are shared with other jobs.
        model = Path(f"{titan_job.job_id}.npz")
        np.savez_compressed(model, *layers)
        client.upload_file(model)
    titan_job.result({"model": model.name, "device": device, "loss": round(loss, 4), "epochs": epochs})


if __name__ == "__main__":
    main()
