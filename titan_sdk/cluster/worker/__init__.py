"""The worker process, which runs jobs on a machine: one per data directory, or per Ray node. It outlives the master.

    master, Ray task == protocol.py over a Unix socket (client.py) ==> process.py
                                                                        |-- plain_guard.py: one per program
                                                                        |    `-- the program and its descendants
                                                                        `-- the launcher of a job with the runtime
                                                                             `-- its guard -- the user's script

``process.py``, ``plain_guard.py``, ``forks.py`` and ``protocol.py`` run in that process. It has one thread, uses only the
standard library, and forks the launcher that it has loaded (``titan_sdk.runtime.worker``).
"""
