"""The charts are XML, with a bar for each figure."""

from pathlib import Path
from xml.etree import ElementTree as ET

from bench.plots import write_plots
from tests.bench import runs
from tests.bench.runs import add

SVG = "{http://www.w3.org/2000/svg}"


def test_every_figure_has_a_bar(tmp_path: Path) -> None:
    results = runs.results()
    for peer, cpu in (("wlproxy", 10.0), ("waypipe none", 1000.0)):
        add(results, "frames <64>", peer, "cpu_us", cpu, cpu)
    add(results, "sync", "wlproxy", "cpu_us", 1.0, 3.0)
    write_plots(results, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cpu.svg"]
    chart = ET.parse(tmp_path / "cpu.svg")
    texts = [each.text for each in chart.iter(f"{SVG}text")]
    assert {"frames <64>", "sync", "10.0", "1,000", "~2.00"} <= set(texts)
    bars = [each for each in chart.iter(f"{SVG}rect") if each.get("fill-opacity")]
    lengths = [float(each.attrib["width"]) for each in bars]
    assert lengths[0] < lengths[1]
    assert [each.get("fill-opacity") for each in bars] == ["1", "1", "0.45"]


def test_a_difference_below_0_has_no_length(tmp_path: Path) -> None:
    write_plots(
        add(runs.results(), "sync", "wlproxy", "added_p50_us", -5.0, -5.0), tmp_path
    )
    chart = ET.parse(tmp_path / "latency.svg")
    [bar] = [each for each in chart.iter(f"{SVG}rect") if each.get("fill-opacity")]
    assert float(bar.attrib["width"]) == 0
