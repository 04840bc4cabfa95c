"""Tells people and programs what was judged: `run` gathers, `result` writes, `text` prints."""
