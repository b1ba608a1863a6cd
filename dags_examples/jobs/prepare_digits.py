"""Split scikit-learn's handwritten digits into training and test images and publish them as one artifact.

Parameters: `seed`, `test_share`. Result: the artifact's name and how many images it holds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import titan_job  # travels with the job; nothing to install on the worker
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from titan_sdk import TitanClient


def main() -> None:
    digits = load_digits()
    print(f"read {len(digits.data)} images of {digits.images[0].shape} pixels")
    titan_job.progress(0.3, "images read")

    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16.0,
        digits.target,
        test_size=titan_job.params["test_share"],
        random_state=titan_job.params["seed"],
        stratify=digits.target,
    )
    print(f"{len(train_y)} images to train on, {len(test_y)} to test on")
    titan_job.progress(0.6, "split")

    with tempfile.TemporaryDirectory() as folder, TitanClient() as client:
        # Artifact names are shared by the whole cluster: the job's own id makes this one unique.
        path = Path(folder) / f"{titan_job.job_id}.npz"
        np.savez_compressed(path, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)
        dataset = client.upload_file(path).name
    titan_job.progress(1.0, "published")
    titan_job.result({"dataset": dataset, "train_images": len(train_y), "test_images": len(test_y)})


if __name__ == "__main__":
    main()
