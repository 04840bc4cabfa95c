"""The judge: clauses, evidence and a dialect in, verdicts out.

Rule: nothing here starts, opens or asks anything but the files of `golden/`. The same
evidence and the same clauses give the same verdicts, today and offline.
"""
