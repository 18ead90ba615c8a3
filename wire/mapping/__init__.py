"""Foreign messages as our records: which field of a message is which field of a record, by settings alone.

    {"ticket_id": 7, "body": "..."}  --`[bus.map.events] id = "{ticket_id}", text = "{body}"`-->  Event(id="7", ...)
    Answer  --`[bus.map.answers.fields] queue = "{label}"`-->  its message, with the field `queue` beside our own

`config` has the settings, `template` reads and fills `{path.to.field}`, `records` makes the fields of a record of a
message, and further fields of an answer. The topics of maps are read beside ours, and nothing of ours is ever sent to
them. `wire.envelope` does the rest: headers, ids, bounds.

Rejected: str.format and expressions (a template must not reach the attributes of an object, nor run code), a map that
replaces our topics (labels by HTTP and found answers would be sent to a topic of others), and answers that have foreign
fields alone (the learner reads the answers, too).
"""
