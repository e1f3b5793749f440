"""Makes docs/plc/Lineside.xml of docs/plc/*.st: `python tests/plugins/plcopen_export.py` writes it.

PLCopen XML (TC6, version 2.0) is what CODESYS and TwinCAT import whole.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

FOLDER = Path(__file__).parents[2] / "docs" / "plc"
FILE = FOLDER / "Lineside.xml"
SPACE = "http://www.plcopen.org/xml/tc6_0200"
_XHTML = "http://www.w3.org/1999/xhtml"
# What is used first, first.
NAMES = (
    *("F_LinesideChar", "F_LinesideByte", "F_LinesideLittle"),
    *("FB_LinesideScan", "FB_LinesideRead", "FB_LinesideVerdict"),
)
_SECTIONS = {
    "VAR_INPUT": "inputVars",
    "VAR_IN_OUT": "inOutVars",
    "VAR_OUTPUT": "outputVars",
    "VAR_TEMP": "tempVars",
    "VAR": "localVars",
}
_VARIABLE = re.compile(r"^    (\w+) : (.+?)(?: := (\S+))?;(?: // (.*))?$", re.MULTILINE)


def export() -> str:
    """The document as text."""
    Xml.register_namespace("", SPACE)
    project = Xml.Element(f"{{{SPACE}}}project")
    made = {"companyName": "Lineside", "productName": "Lineside", "productVersion": "1"}
    # A fixed day: the same texts give the same file.
    _add(project, "fileHeader", **made, creationDateTime="2026-11-21T00:00:00")
    header = _add(project, "contentHeader", name="Lineside")
    coordinates = _add(header, "coordinateInfo")
    for language in ("fbd", "ld", "sfc"):
        _add(_add(coordinates, language), "scaling", x="1", y="1")
    types = _add(project, "types")
    _add(types, "dataTypes")
    units = _add(types, "pous")
    for name in NAMES:
        _add_unit(units, name, (FOLDER / f"{name}.st").read_text("utf-8"))
    _add(_add(project, "instances"), "configurations")
    Xml.indent(project)
    head = "<?xml version='1.0' encoding='utf-8'?>\n"
    # The same by XML's rules, and as the tools themselves write it.
    text = Xml.tostring(project, encoding="unicode").replace(f' xmlns:html="{_XHTML}"', "")
    text = text.replace("<html:xhtml>", f'<xhtml xmlns="{_XHTML}">').replace(
        "html:xhtml>", "xhtml>"
    )
    return f"{head}{text}\n"


def _add_unit(units: Xml.Element, name: str, text: str) -> None:
    declared, body = re.split(r"(?<=END_VAR)\n\n", text, maxsplit=1)
    comment = " ".join(re.findall(r"^// (.*)$", declared, re.MULTILINE))
    is_function = name.startswith("F_")
    unit = _add(units, "pou", name=name, pouType="function" if is_function else "functionBlock")
    interface = _add(unit, "interface")
    result = re.search(r"^FUNCTION \w+ : (\w+)$", declared, re.MULTILINE)
    if result:
        _add(_add(interface, "returnType"), result[1])
    for section, lines in re.findall(r"^(VAR\w*)\n(.*?)^END_VAR", declared, re.M | re.S):
        variables = _add(interface, _SECTIONS[section])
        for variable, kind, start, told in _VARIABLE.findall(lines):
            _add_variable(variables, variable, kind, start, told)
    _add_text(interface, comment)
    source = re.sub(r"END_FUNCTION(?:_BLOCK)?\n$", "", body)
    structured = _add(_add(unit, "body"), "ST")
    Xml.SubElement(structured, f"{{{_XHTML}}}xhtml").text = source


def _add_variable(variables: Xml.Element, name: str, kind: str, start: str, told: str) -> None:
    variable = _add(variables, "variable", name=name)
    _add_kind(_add(variable, "type"), kind)
    if start:
        _add(_add(variable, "initialValue"), "simpleValue", value=start)
    if told:
        _add_text(variable, told)


def _add_kind(place: Xml.Element, kind: str) -> None:
    array = re.fullmatch(r"ARRAY\[0\.\.(\d+)\] OF (\w+)", kind)
    text = re.fullmatch(r"STRING\((\d+)\)", kind)
    if array:
        cells = _add(place, "array")
        _add(cells, "dimension", lower="0", upper=array[1])
        _add(_add(cells, "baseType"), array[2])
    elif text:
        _add(place, "string", length=text[1])
    elif kind.startswith("FB_"):
        _add(place, "derived", name=kind)
    else:
        _add(place, kind)


def _add_text(place: Xml.Element, text: str) -> None:
    Xml.SubElement(_add(place, "documentation"), f"{{{_XHTML}}}xhtml").text = text


def _add(place: Xml.Element, tag: str, /, **attributes: str) -> Xml.Element:
    return Xml.SubElement(place, f"{{{SPACE}}}{tag}", attributes)


if __name__ == "__main__":
    FILE.write_text(export(), "utf-8")
    sys.stdout.write(f"{FILE}\n")
