"""Between a request and a process: what is submitted, decided, run and known."""
