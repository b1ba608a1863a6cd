"""Producer: leave values in TitanStore for whoever needs them."""

from __future__ import annotations

from titan_sdk import TitanClient

client = TitanClient()
# Save a result globally before the task exits.
client.store_put("task_123_accuracy", "98.5")
client.store_sadd("processed_files", "batch_A.csv")
print("stored")
