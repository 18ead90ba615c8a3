"""What `lifelong backup` and `restore` do: everything that a service knows in one folder, made while it runs, and back.

    the learner's files, then the store's keys in one moment, then the blobs that these name --writing--> FOLDER
    FOLDER --format: every byte is checked--> an empty store and an empty folder of the learner --restoring--> service

Keys that sign are not in it: `backup.json` has the ids of those that are needed. Topics are Kafka's own to keep.
"""
