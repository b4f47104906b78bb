"""What agents and the service say to each other, byte by byte."""
