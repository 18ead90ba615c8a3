"""The command line, the settings, and the local stack, which start and connect the other rooms.

    cli (collisions) -> commands -> settings -> local/stack -> supervisor -> a process for each room

cli, commands/      the commands of `lifelong`; a command imports its modules when it runs
collisions          other distributions that have packages with our names
settings            the model of all settings, from a file, the environment and flags, with secrets in files;
                    defaults that depend on the tasks; the environment of a child process
settings_docs       descriptions of settings, and explanations of values that are not accepted
local/              starts all programs on one machine and restarts them; Redis, a broker, logs
programs, running   the programs of a service and the stores of their tasks; the address of a running stack
keys                the file of the signing keys and its changes, and the secrets of containers
topics              the topics that each program needs, the check at its start, and the document of the topics
page/               the page that `up` and `demo` serve, and `lifelong top`
demo/, bench/, tune/, members/, profiles/, encoder_check   `lifelong demo`, `bench`, `tune`, `model`, `profile` and
                    `encoder`
templates/, exported, history/   files for `lifelong new`; `lifelong export` and `import`
label_commands, refused, admin_log   changes of the set of labels, and messages that operators send again, both by
                    commands and by the page; the audit log of these actions
operator_commands   waits for the outcome of a command in the log
doctor, backups, state_formats   `lifelong doctor`, `backup`, `restore` and `migrate`
open_store          opens the store of a service, even if the service does not run
rebuild, versions_at   `lifelong versions rebuild` and `versions at`
cores, resident_bytes, versions   the number of cores, the memory of processes, and the version of this code

Other rooms never import this one. The benchmarks use Settings, load, Stack and the servers.
"""
