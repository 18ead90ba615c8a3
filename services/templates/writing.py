"""Copies a template under the user's names: a module, its test, and the settings that name it.

`lifelong new encoder digits` --> digits.py, test_digits.py, digits.toml
"""

import keyword
from pathlib import Path

HERE = Path(__file__).parent
CLASS = "GreyImages"
"""The name of the class in the template."""


class NameTaken(ValueError):
    """The name cannot be used; the message says why, and the fix."""


def write_encoder(name: str, folder: Path) -> list[Path]:
    """Writes the files of an encoder into `folder`, and returns them. Raises NameTaken before it writes anything."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise NameTaken(f"{name!r} is not the name of a Python module: choose one such as `digits` or `my_encoder`")
    contents = {
        f"{name}.py": (HERE / "encoder.py").read_text().replace(CLASS, class_name(name)),
        f"test_{name}.py": _fill_in((HERE / "encoder_test.txt").read_text(), name),
        f"{name}.toml": _fill_in((HERE / "encoder.toml").read_text(), name),
    }
    taken = [file for file in contents if (folder / file).exists()]
    if taken:
        raise NameTaken(f"{', '.join(taken)} exists in {folder}: choose another name, or move it away")
    for file, content in contents.items():
        (folder / file).write_text(content)
    return [folder / file for file in contents]


def class_name(name: str) -> str:
    """Returns the name of the class of a module.

    >>> class_name("my_encoder")
    'MyEncoder'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def _fill_in(text: str, name: str) -> str:
    return text.replace("NAME", name).replace("CLASS", class_name(name))
