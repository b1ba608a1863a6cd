"""The engine for many machines: jobs are tasks of a Ray cluster, which chooses the node.

    front process                on the head                         on a node
    RayEngine ===== stream ===== Dispatcher == task, its return ==== Ray's worker process == socket == worker process
        ^   start, kill; begun, ended                                  one coroutine                     guard, launcher
        |                                                              per run                             `-- the job
        |------------------- output, as requests ---------------------|  ^    <------ a file that it writes ------'
        `------------------- the job's own requests ------------------'  `------------- TITAN_SOCKET -------------'

A job: an `Order` from the front to the dispatcher, which makes a Ray task of it; that stages its files and has the node's
worker process start it, as on one machine (`cluster/worker/client.py`). A line of its log: from the run's file, four times a
second, straight to the front. Its end: from the worker process to the task, which returns it with the last output and the
launcher's last record, to the dispatcher, to the front.

The dispatcher dials the front, and is a detached actor: it survives fronts. A short-lived driver of Ray, `inside/attach_driver.py`,
tells it where the front is, after having `inside/dispatcher_driver.py` make it where there is none. Ray is imported below `inside` only,
of which the front imports nothing, as Ray ends a driver that loses its cluster, and a front has to outlive that.
"""
