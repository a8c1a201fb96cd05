"""The table of commands: each verb, the module that implements it, and one line of help.

A verb's module has a docstring, its help text; `add_arguments(parser)`; and `run(args)`, which
raises the errors that `kdx.commands.shared.guarded` turns into exit codes. It imports torch and
other slow packages only in `run`, so that help is printed at once.
"""

VERBS = {
    "distill": ("kdx.commands.distill", "train a compact network from a recipe"),
    "evaluate": ("kdx.commands.evaluate", "evaluate a compact network on a data set"),
    "compress": ("kdx.commands.compress", "turn a checkpoint into the compact network"),
    "dry-run": ("kdx.commands.dry_run", "build everything, print the plan and the cost"),
    "memo": ("kdx.commands.memo", "store the teacher's outputs before training"),
    "recipes": ("kdx.commands.recipes", "list the shipped recipes and studies, or copy one"),
    "list": ("kdx.commands.list", "list losses, networks, data sets, ... and their arguments"),
    "schema": ("kdx.commands.schema", "write the JSON schema of recipes for editors"),
    "anchors": ("kdx.commands.anchors", "find anchors for the boxes of a data set"),
    "study": ("kdx_lab.commands.study", "run a study: recipes in variants and seeds"),
    "analyze": ("kdx_lab.commands.analyze", "analyze finished runs: curves, gradients, landscapes"),
    "complexity": ("kdx_lab.commands.complexity", "count parameters and FLOPs, measure speed"),
    "scenes": ("kdx_lab.commands.scenes", "make images for detection and segmentation"),
}
"""The modules of kdx_lab are named here as strings: kdx does not import it."""
