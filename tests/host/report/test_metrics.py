"""What is counted: totals, and what of it can go into the status document."""

import json

from wlproxy.host.report.metrics import Metrics


def test_totals_are_numbers_by_name_even_after_clients_were_copied() -> None:
    metrics = Metrics(frames_sent=3)
    metrics.copied(client_id=7, amount=4096)

    totals = json.loads(json.dumps(metrics.totals()))

    assert totals["frames_sent"] == 3
    assert totals["pixel_bytes_copied"] == 4096
    assert "client_pixel_bytes" not in totals
