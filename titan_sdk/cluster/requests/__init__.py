"""From a request to its reply: the table of opcodes, and what each of them does with the master."""
