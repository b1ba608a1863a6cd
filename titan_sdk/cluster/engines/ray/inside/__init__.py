"""What runs in a driver, an actor or a worker process of Ray. The front imports nothing of it."""
