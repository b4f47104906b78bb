"""What livingai costs inside agent frameworks, beside what each persists with by itself."""
