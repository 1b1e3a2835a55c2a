"""The verbs of `vidgan`: arguments, printing, exit codes."""
