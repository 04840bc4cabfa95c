"""`startkit matrix`: many targets through the one suite, and the table clause by target.

    targets.toml  who is judged when nobody is named, and on which cgroups
    run           a process of the suite for each target, each into a directory of its own
    table         such directories in, one `Matrix` out: what matrix.json holds
    text          the table for a terminal, and matrix.md
    page          matrix.html, with page.css and page.js in it

Rule: whatever is shown was read from the directories, so that a saved matrix is the same as
one that has just been made. A target that could not be judged is a column that says why.
"""

from __future__ import annotations
