"""dockerd: the API in front, and the steps of a start behind it."""
