"""The engine for many machines: jobs are tasks of a Ray cluster, which chooses the node.

    front process            bridge (child)          in the Ray cluster
    RayEngine == frames ==>  ray driver  == calls ==> Dispatcher: detached actor, owns the tasks, survives fronts
                                                       `-- one task per job: inside/node/run.py starts its process

Ray is imported below `inside` only, of which the front's process imports nothing: Ray ends a driver that loses its
cluster, and a front has to outlive that.
"""
