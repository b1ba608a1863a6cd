"""Measure a trained model on the test images.

Parameters: `dataset` and `model` (artifact names). Result: the accuracy over all digits, for each digit, and
whether the model was already on this node (which is what affinity to the training job is for).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import titan_job

from titan_sdk import TitanClient


def predict(layers: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The digit that each row of pixels shows."""
    into_hidden, into_output, hidden_bias, output_bias = layers
    hidden = np.maximum(x @ into_hidden + hidden_bias, 0.0)
    return np.argmax(hidden @ into_output + output_bias, axis=1)


def main() -> None:
    model = Path(titan_job.params["model"])
    on_this_node = model.exists()
    with tempfile.TemporaryDirectory() as folder, TitanClient() as client:
        dataset = client.fetch_artifact(titan_job.params["dataset"], Path(folder) / "digits.npz")
        if on_this_node:
            print("same node as the training: the model is here already")
        else:
            print("another node than the training: fetching the model")
            model = client.fetch_artifact(model.name, Path(folder) / "model.npz")
        titan_job.progress(0.3, "inputs ready")
        with np.load(dataset) as digits, np.load(model) as arrays:
            x, y = digits["test_x"], digits["test_y"]
            guessed = predict([arrays[name] for name in arrays.files], x)
    if on_this_node:
        Path(titan_job.params["model"]).unlink()  # the artifact stays on the master
    correct = guessed == y
    per_digit = {str(digit): round(float(correct[y == digit].mean()), 4) for digit in range(10)}
    for digit, share in per_digit.items():
        print(f"digit {digit}: {share:7.2%} right")
    accuracy = round(float(correct.mean()), 4)
    print(f"all digits: {accuracy:.2%} right, {int((~correct).sum())} of {len(y)} wrong")
    titan_job.progress(1.0, f"accuracy {accuracy:.2%}")
    titan_job.result({"accuracy": accuracy, "per_digit": per_digit, "model_was_on_this_node": on_this_node})


if __name__ == "__main__":
    main()
