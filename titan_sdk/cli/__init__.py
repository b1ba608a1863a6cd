"""The command ``titan``. Only this package needs typer and rich; ``import titan_sdk`` never loads it."""
