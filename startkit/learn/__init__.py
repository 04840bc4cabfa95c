"""Wrong engines on purpose: they show what the suite sees."""
