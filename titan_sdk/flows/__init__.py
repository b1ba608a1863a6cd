"""Multi-step operations, each written once for both clients."""
