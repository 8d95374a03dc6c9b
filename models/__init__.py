"""Decoding, learning and the rules of versions (no Redis, no HTTP, no Celery).

Two settings must be in the environment before torch is first imported, which only this folder does.

``OMP_WAIT_POLICY=PASSIVE`` lets torch's threads sleep while they wait. Chat and the learner share
cores, and spinning threads of one waste the time of the other. On two cores, two processes ran a
small bf16 product 800 times a second each while spinning, and 2,300 times while sleeping. A process
alone on the cores loses a fifth of its speed (bench/contention.py).

``THP_MEM_ALLOC_ENABLE=1`` lets torch use huge pages. A learner allocates and frees log-probs over
the whole vocabulary in blocks of many megabytes, and the system clears their pages each time. Huge
pages make that cheaper.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
