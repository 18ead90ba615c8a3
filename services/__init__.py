"""The command line, the settings, and the local stack: what starts and connects the other rooms.

    cli (collisions) -> commands -> settings -> local/stack -> supervisor -> a process for each room

cli, commands/      the commands of `lifelong`; a command imports what it needs when it runs
collisions          other distributions with packages of our names
settings            one model of all settings, from a file, the environment and flags, with secrets that lie in files;
                    what follows from several tasks; the variables of a child process
settings_docs       what a setting means, and what is wrong with a value
local/              starts everything on one machine, restarts what ends; Redis, a broker, logs
programs, running   the programs of a service and the stores of their tasks; where a running stack can be reached
keys                the file of keys that sign, how it is changed, and the secrets of containers
topics              which topics each program needs, the check at its start, and the document of the topics
page/               the page that `up` and `demo` serve, and `lifelong top`
demo/, bench/, tune/, members/, profiles/, encoder_check   what `lifelong demo`, `bench`, `tune`, `model`, `profile`
                    and `encoder` do
templates/, exported, history/   what `lifelong new` writes, `lifelong export` and `import`
label_commands, refused, admin_log   what operators change and send again, by `lifelong labels`, `quarantine` and
                    `deadletters` and by the page, and the record of it
operator_commands   waits for what becomes of a command in the log
doctor, backups, state_formats   what `lifelong doctor`, `backup`, `restore` and `migrate` do
open_store          the store of a service that may not run
rebuild, versions_at   what `lifelong versions rebuild` and `versions at` do
cores, resident_bytes, versions   how many cores there are, the memory of processes, and the version of this code

Other rooms never import this one. The benchmarks use Settings, load, Stack and the servers.
"""
