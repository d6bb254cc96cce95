"""The pipelines: scripts in a clone, `syncdiff` and its subcommands where the package is installed."""
