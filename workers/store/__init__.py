"""The processes that talk to the store: writers, the reader, the housekeeper."""
