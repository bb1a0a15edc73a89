"""The `zactor` command: a demonstration, the daemons, and looking into a running cluster.

Each module is one command or a family of them; `main` loads only the one that was asked for.
`session` is the only module that speaks to a cluster, `output` the only one that formats.
"""
