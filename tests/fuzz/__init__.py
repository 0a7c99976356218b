"""Damaged files of every kind that volflow reads: refused with the file's name, or read rightly.

python -m tests.fuzz [COUNT [SEED]] [--kind KIND]

    damage.py       one damage of one file, drawn from a seed
    kind.py         a kind of file: how it is made and read, and which damage cannot be known
    kinds.py        all kinds, by name
    judge.py        what came of a damage
    attempts.py     the attempts of a seed, in a child process with limits
"""
