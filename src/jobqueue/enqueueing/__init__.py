"""What a host in Python may call: enqueue within its own transaction, and wait for how a job ends. None of it is needed.

A host in any language enqueues by plain `INSERT`. `jobqueue.enqueue` is that statement, with its values checked first.
"""
