"""The `quantface` command, one file per subcommand: arguments to a pipeline's request, its result to text."""
