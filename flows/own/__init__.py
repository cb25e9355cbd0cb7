"""The parts that find, load and draft runbooks in Python that lie outside this repository."""
