"""dfpipe: deepfake detection from clips and stills to verdicts that a person can check.

The rooms, in the order of the data: `dfpipe.preprocess` (media to face crops), `dfpipe.train` (crops to a model file),
`dfpipe.infer` (model file and media to verdicts). This trunk holds the words they share and the command line above them.
Nothing heavy is imported here.
"""

__version__ = "0.1.0.dev0"
