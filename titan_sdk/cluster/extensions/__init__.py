"""The bundled master's answers to our extension opcodes (docs/protocol.md)."""
