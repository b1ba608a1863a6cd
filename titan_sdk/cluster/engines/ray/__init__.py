"""The engine for many machines: jobs are tasks of a Ray cluster, which chooses the node.

    front process               in the Ray cluster
    RayEngine <== one stream == Dispatcher: a detached actor on the head node, owns the tasks, survives fronts
        ^                         `-- one task per job (inside/node/run.py): runs its process on the node
        `---- output, as requests ----'

The dispatcher dials the front. A short-lived driver of Ray, `inside/attach.py`, finds or makes the dispatcher and tells
it where: Ray is imported below `inside` only, of which the front imports nothing, as Ray ends a driver that loses
its cluster, and a front has to outlive that.
"""
