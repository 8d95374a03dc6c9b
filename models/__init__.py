"""What decodes and what learns: no Redis, no HTTP, no Celery.

torch's OpenMP threads spin while they wait. With chat and the learner on the same cores each then
burns the other's time: on two cores, two processes ran a small bf16 product 800 times a second each
while spinning and 2,300 times while sleeping. A process that has the cores to itself pays a fifth
for that (bench/contention.py). And a learner's log-probs over the whole vocabulary come and go in
blocks of many megabytes, whose pages the system clears each time: huge pages make it cheaper. Both
settings are read once, when torch is first imported, which only this folder does.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
