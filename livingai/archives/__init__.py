"""What a store holds as files: exports that any store reads, and backups."""
