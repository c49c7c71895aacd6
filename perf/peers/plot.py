"""Bars of ours beside the best peer's, drawn by the peers' environment, which has matplotlib: plot.py OUTPUT.svg < JSON."""
import json
import subprocess
import sys

LONGEST = 44  # bars of a column


def draw(bars, output):
    """bars: {"title", "label", "groups": {name: [{"name", "ours", "best" or None, "peer"}]}}, shares of 1."""
    from client import PYTHON
    subprocess.run([PYTHON, __file__, output], input=json.dumps(bars), text=True, check=True)


def panels(groups):
    """(title, entries) of at most LONGEST bars each."""
    for name, entries in groups.items():
        for start in range(0, len(entries), LONGEST):
            part = entries[start:start + LONGEST]
            yield (name if len(entries) <= LONGEST else f"{name} ({start // LONGEST + 1})"), part


def main(output):
    import matplotlib
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "heddle", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    bars = json.load(sys.stdin)
    parts = list(panels(bars["groups"]))
    heights = [len(entries) + 3 for _, entries in parts]
    figure, axes = pyplot.subplots(len(parts), 1, figsize=(9, 0.2 * sum(heights) + 0.5), squeeze=False, gridspec_kw={"height_ratios": heights},
                                   layout="constrained")
    figure.suptitle(bars["title"])
    for (title, entries), axis in zip(parts, axes[:, 0]):
        places = range(len(entries))
        axis.barh([p - 0.2 for p in places], [100 * e["ours"] for e in entries], 0.4, label="heddle", color="#3465a4")
        axis.barh([p + 0.2 for p in places], [100 * (e["best"] or 0) for e in entries], 0.4, label="best peer", color="#c4a000")
        for place, entry in zip(places, entries):
            if entry["best"]:
                axis.text(100 * entry["best"] + 0.5, place + 0.2, entry["peer"], va="center", fontsize=5)
        axis.axvline(100, color="black", linewidth=0.6)
        axis.set_yticks(list(places), [e["name"] for e in entries], fontsize=6)
        axis.set_ylim(len(entries) - 0.4, -0.6)
        axis.set_title(title, loc="left")
        axis.set_xlabel(bars["label"])
        axis.legend(loc="lower right", fontsize=6)
    figure.savefig(output, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
