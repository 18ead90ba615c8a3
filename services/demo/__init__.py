"""The main job on real input: a labelled data set as a stream, answered, labelled late, learned, honestly scored."""
