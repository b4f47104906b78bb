"""Looking inside: what lies in a state directory, and whether it keeps its promises."""
