"""From a request to its reply: the table of opcodes, and their handlers by subject."""
