"""Which curves stand in one chart."""

from pgvae.report.collect import Series, Stats
from pgvae.report.panels import panels_of


def stats(*names: str, value: float = 1.0) -> Stats:
    return Stats({name: Series([100.0], [value]) for name in names})


def layout(found: Stats) -> dict[str, list[list[str]]]:
    """Names of the curves of each chart, by section."""
    return {
        section: [[curve.name for curve in panel.curves] for panel in panels]
        for section, panels in panels_of(found).items()
    }


def test_the_same_term_of_both_networks_is_one_chart():
    found = layout(stats("encoder/rec", "encoder/kl", "generator/rec"))
    assert found == {"Training": [["encoder/rec", "generator/rec"], ["encoder/kl"]]}


def test_sections_are_in_one_order_whatever_the_log_has_first():
    found = layout(stats("lr", "both/rec", "metric/swd", "val/psnr", "anything"))
    assert found == {
        "Unseen images": [["val/psnr"]],
        "Metrics while training": [["metric/swd"]],
        "Training": [["both/rec"]],
        "Pace": [["lr"], ["anything"]],
    }


def test_a_floor_is_beside_its_metric():
    [panel] = panels_of(stats("metric/swd", "metric/psnr r floor", "metric/swd floor"))[
        "Metrics while training"
    ][:1]
    assert [(c.label, c.floor) for c in panel.curves] == [("swd", False), ("swd floor", True)]


def test_accuracies_are_percent_and_at_most_five_to_a_chart():
    names = [f"val/accuracy label {k}" for k in range(12)]
    panels = panels_of(stats(*names))["Unseen images"]
    assert [len(panel.curves) for panel in panels] == [5, 5, 2]
    assert panels[1].title == "Accuracy of the classifier (2 of 3)"
    assert (panels[0].unit, panels[0].factor) == ("%", 100)
    assert panels[2].curves[1].label == "label 11"


def test_without_unseen_images_the_section_says_what_was_measured():
    assert list(layout(stats("train/psnr"))) == ["Training images, as the set has no unseen ones"]


def test_what_the_timeline_shows_and_skipped_steps_that_stay_zero_are_left_out():
    assert layout(stats("resolution", "alpha", "skipped_steps", value=0)) == {}
    assert layout(stats("skipped_steps", value=3)) == {"Pace": [["skipped_steps"]]}
