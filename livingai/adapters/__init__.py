"""What connects livingai with other formats and frameworks, one module each."""
