"""What the stores of several databases share: rows, readable text, URLs."""
