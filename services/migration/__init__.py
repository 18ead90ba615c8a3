"""What `lifelong migrate` does: which formats of a state the installed release reads, and which it rewrites.

    learner_files: checkpoints, journals, adopted encoders | store_records: manifests, plan, tallies, ...
    --examined--> FormatFinding (format_finding) --rewrite--> the format of this release

A release reads what the one before it wrote, so a service is upgraded one release after another. What would be too old
for the next one is rewritten; what is read as it is, and follows this release with the next write, is left alone.
"""
