"""Manifests on standard input, held against Kubernetes' own schemas, which refuse a field that they do not know.

Usage: validate.py VERSION...; writes the manifests as a list in JSON. Resources of other makers, whose schemas Kubernetes
does not have, are held against crds.json: what of them the chart uses, as their makers' API reference has it.
"""

import json
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML's loader would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def validate(manifest: dict, version: str, others: dict) -> None:
    other = others.get(f"{manifest['apiVersion']}/{manifest['kind']}")
    if other is None:
        kubernetes_validate.validate(manifest, version, strict=True)
    else:
        jsonschema.Draft202012Validator(other).validate(manifest)


def main() -> None:
    others = json.loads(Path(__file__).with_name("crds.json").read_text())
    manifests = [manifest for manifest in yaml.load_all(sys.stdin, Loader) if manifest is not None]
    for manifest in manifests:
        for version in sys.argv[1:]:
            try:
                validate(manifest, version, others)
            except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                where = "/".join(str(step) for step in getattr(error, "absolute_path", ()))
                name = f"{manifest['kind']} {manifest['metadata']['name']}"
                sys.exit(f"{name}, Kubernetes {version}: {where}: {error.message[:400]}")
    json.dump(manifests, sys.stdout)


main()
