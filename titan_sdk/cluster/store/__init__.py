"""Where the bundled master keeps what must outlive it."""
