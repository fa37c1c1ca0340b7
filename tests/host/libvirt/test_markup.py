import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.libvirt.markup import Editor, Element, MarkupError, parse

TEXT = b"""<?xml version='1.0'?>
<!-- a comment with a <tag> -->
<a one='>"' two="'/>">
  <b/>
  <c  x = "1"  >text<![CDATA[<more>]]></c>
  <b y='2'></b>
  <d\xc3\xa9 z='\xc3\xa9'/>
</a>
"""


def pieces(element: Element) -> list[bytes]:
    """What the elements are in the text, in order."""
    found = [TEXT[element.start : element.end]]
    for child in element.children:
        found += pieces(child)
    return found


def test_each_element_knows_where_it_is() -> None:
    root = parse(TEXT)
    assert pieces(root)[0].startswith(b"<a one=")
    assert pieces(root)[0].endswith(b"</a>")
    assert pieces(root)[1:] == [
        b"<b/>",
        b'<c  x = "1"  >text<![CDATA[<more>]]></c>',
        b"<b y='2'></b>",
        "<dé z='é'/>".encode(),
    ]
    assert root.attributes == {"one": '>"', "two": "'/>"}
    assert root.get("c", "x") == "1"
    assert root.get("c", "y") == root.get("nothing", "y") == ""
    assert [each.attributes for each in root.all("b")] == [{}, {"y": "2"}]
    first = root.first("c")
    assert first is not None
    assert first.text == "text<more>"


def test_all_else_stays_as_it_was() -> None:
    root, editor = parse(TEXT), Editor(TEXT)
    (b, _) = root.all("b")
    c = root.first("c")
    assert c is not None
    editor.replace(b, "<new/>")
    editor.set(c, "x", "3")
    editor.append(root, "<last/>\n<very-last/>", None)
    editor.append(root, "<after/>", c)
    editor.append(root, "<after-that/>", c)
    editor.append(c, "<in/>", None)
    expected = TEXT.replace(b"<b/>", b"<new/>").replace(b'x = "1"', b"x = '3'")
    expected = expected.replace(b"</c>", b"</c>\n  <after/>\n  <after-that/>").replace(
        b">text", b">\n    <in/>text"
    )
    end = "z='é'/>".encode()
    expected = expected.replace(end, end + b"\n  <last/>\n  <very-last/>")
    assert editor.result() == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<a>",
        b"text",
        b"<a/><b/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<a>&nothing;</a>",
    ],
)
def test_what_is_no_xml(text: bytes) -> None:
    with pytest.raises(MarkupError):
        parse(text)


@given(st.binary())
def test_anything_is_xml_or_an_error(text: bytes) -> None:
    try:
        root = parse(text)
    except MarkupError:
        return
    assert text[root.start : root.end].startswith(b"<")
