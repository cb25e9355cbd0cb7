"""Imported once into the process that run processes are forked from: all that every run needs, and nothing else.

It holds no threads, no connections and nothing of any run. What is loaded here is shared by all run processes;
`gc.freeze` keeps the collector from touching, and so copying, it.
"""

import gc

gc.collect()
gc.freeze()
