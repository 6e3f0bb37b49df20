"""What can be named: suites, methods and attacks, and the loading of the files that register them."""

from nsbench.registry.choosing import ordered_methods, ordered_suites, resolve_methods, resolve_suites
from nsbench.registry.content import content_folder, included, included_files, load_content, of_project
from nsbench.registry.registries import Methods, Registry, attack, attacks, method, methods, suite, suites

__all__ = [
    "Methods",
    "Registry",
    "attack",
    "attacks",
    "content_folder",
    "included",
    "included_files",
    "load_content",
    "method",
    "methods",
    "of_project",
    "ordered_methods",
    "ordered_suites",
    "resolve_methods",
    "resolve_suites",
    "suite",
    "suites",
]
