"""Options of Stable Diffusion WebUI's command line."""


def preload(parser):
    parser.add_argument(
        "--quantface-models-path",
        metavar="FOLDER",
        help="where QuantFace's models are, and where it puts those it fetches or builds (models/quantface)",
    )
