"""From event to answer: batches events, runs the model, takes new weights between two batches."""
