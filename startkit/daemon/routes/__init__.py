"""What each request calls. Rule: parse, call, answer; what is decided is decided in the core."""
