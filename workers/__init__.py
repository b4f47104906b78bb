"""The service's processes: supervisor, dispatcher, compressors, writers, reader."""
