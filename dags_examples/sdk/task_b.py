"""Consumer: read back what task_a.py left, from any node."""

from __future__ import annotations

from titan_sdk import TitanClient

client = TitanClient()
accuracy = client.store_get("task_123_accuracy")
if accuracy is None:
    raise SystemExit("there is no accuracy yet: run task_a.py first")
files = client.store_smembers("processed_files")
print(f"accuracy {float(accuracy):.1f} over {', '.join(sorted(files))}")
