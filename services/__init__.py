"""The command line, the settings, and the local stack: what starts and connects the other rooms.

    cli (collisions) -> commands -> settings -> stack -> supervisor -> a process for each room

cli, commands/      the commands of `lifelong`; a command imports what it needs when it runs
collisions          other distributions with packages of our names
settings            one model of all settings, from a file, the environment and flags; settings_docs: what each means;
                    secret_files: secrets that lie in files; task_settings: what follows from several tasks;
                    environment: the variables of a child process
stack, supervisor   starts everything on one machine, and restarts what ends (announcer: says so);
                    servers, local/: Redis, a broker, logs;
                    programs: the commands that it starts, and the stores of their tasks
asyncapi   the document of the topics
topic_uses          which topics each program needs, and the check at its start
backups/   what `lifelong backup` and `restore` do; open_store: the store of a service that may not run
migration/          what `lifelong migrate` does
running, keys       where a running stack can be reached, and its keys; signing_keys: how their file is changed
page/               the page that `up` and `demo` serve, and `lifelong top`
demo/, bench/, tune/, encoders/, members/   what `lifelong demo`, `bench`, `tune`, `encoder` and `model` do
templates/, exported/   what `lifelong new` writes, and `lifelong export`
cores   how many cores there are, within the limits of a container
progress   what a command is doing, on a terminal and in a log
history/   what `lifelong import` does
doctor (server_checks), quarantine   what the commands of the same names do
label_commands   what `lifelong labels` does, and the page
dead_letters, admin_log (audit)   what `lifelong deadletters` and `audit` do, and the page
rebuild, versions_at   what `lifelong versions rebuild` and `versions at` do
resident_bytes, versions   for measurements

Other rooms never import this one. The benchmarks use Settings, load, Stack and the servers.
"""
