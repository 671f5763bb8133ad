"""The example report under docs/: its numbers are those of the archive's JSON, worked out anew without `results`."""

import gzip
import hashlib
import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy import stats

EXAMPLE = Path(__file__).parents[3] / "docs" / "example"
LINES = [json.loads(line) for line in gzip.decompress((EXAMPLE / "archive.jsonl.gz").read_bytes()).splitlines()]
PAGE = (EXAMPLE / "report.html").read_text(encoding="utf-8")
CLASS_PIXELS = 10 * 8 * 8  # ten classes of 8 × 8 images


class Tables(HTMLParser):
    """The tables of a page by the label of their region, each row a dict of its texts; and every label of a point."""

    def __init__(self):
        super().__init__()
        self.tables, self.points, self.alts = {}, {}, []
        self._region, self._chart, self._row, self._head, self._text = "", "", None, [], None

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if given.get("role") == "region":
            self._region, self._head = given["aria-label"], []
        if tag == "figure" and given.get("class") == "chart":
            self._chart = given["id"].removeprefix("chart-")
        if tag == "g" and given.get("class") == "point":
            self.points.setdefault(self._chart, []).append(given["aria-label"])
        if tag == "img":
            self.alts.append(given["alt"])
        if tag == "tr":
            self._row = []
        if tag in ("td", "th"):
            self._text = ""

    def handle_data(self, data):
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._row is not None:
            self._row.append(self._text.strip())
            self._text = None
        if tag == "tr" and self._region:
            if not self._head:
                self._head = self._row
                self.tables[self._region] = []
            else:
                self.tables[self._region].append(dict(zip(self._head, self._row, strict=True)))
        if tag == "table":
            self._region = ""


SHOWN = Tables()
SHOWN.feed(PAGE)
SHOWN.close()


def records(kind):
    """The records of one kind, by trial and stage."""
    found = {}
    for line in LINES:
        match = re.match(rf"decide-digits/([^/]+)/stage-(\d+)/{kind}", line["path"])
        if match:
            assert (match[1], int(match[2])) not in found
            found[match[1], int(match[2])] = line["record"]
    return found


CONFIGS = {line["path"].split("/")[1]: line["record"] for line in LINES if line["path"].endswith("config.json")}
STAGES, EVALUATIONS = records("stage.json"), records("evaluations/")


def ipc(config):
    return config["poster_width"] * config["poster_height"] / CLASS_PIXELS


def seeds(steps=200, stage=None, **setting):
    """Accuracies of a setting by seed: at its last stage, or the one named; `poster_ipc` to three digits."""
    found = {}
    for trial, config in CONFIGS.items():
        values = {**config, "poster_ipc": ipc(config)}
        same = (
            abs(values[name] - value) < 1e-3 * value if name == "poster_ipc" else str(values[name]) == str(value)
            for name, value in setting.items()
        )
        if all(same):
            assert config["seed"] not in found
            record = EVALUATIONS.get((trial, stage or config["num_stages"]))
            found[config["seed"]] = statistics.fmean(record["accuracy"][str(steps)]["values"]) if record else None
    return {seed: found[seed] for seed in sorted(found) if found[seed] is not None}


def interval(values):
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def near(text, value, digits=1):
    """A shown number is the value, rounded: 0.05 of a tenth, and a hair for ties."""
    assert abs(float(text) - value) <= 0.5 * 10**-digits + 1e-9, (text, value)


def test_the_records_are_whole_and_untouched():
    assert len(CONFIGS) == 81 and len(STAGES) == len(EVALUATIONS) == 243
    for line in LINES:
        written = json.dumps(line["record"], indent=1).encode() + b"\n"
        assert hashlib.sha256(written).hexdigest() == line["sha256"], line["path"]
    for (trial, stage), record in EVALUATIONS.items():
        drawn = [STAGES[trial, s]["digests"]["poster.safetensors"] for s in range(1, stage + 1)]
        assert record["posters"] == drawn and len(record["blend"]) == stage


def test_it_is_of_three_settings_of_everything_and_three_seeds():
    def values(name):
        return {config[name] for config in CONFIGS.values()}

    assert values("dataset") == {"digits"} and values("num_stages") == {2, 3, 4} and values("seed") == {0, 1, 2}
    assert values("blend") == {"dynamic", "uniform", "latest"} and len({ipc(c) for c in CONFIGS.values()}) == 3


def test_every_number_of_the_settings():
    table = SHOWN.tables["Every setting"]
    assert len(table) == 27
    for row in table:
        setting = {"num_stages": row["num stages"], "blend": row["blend"], "poster_ipc": float(row["poster ipc"])}
        drawn = 1 if row["blend"] == "latest" else int(row["num stages"])
        assert float(row["cumulative ipc"]) == pytest.approx(drawn * setting["poster_ipc"], rel=0.005)
        for steps in (50, 100, 200):
            values = list(seeds(steps, **setting).values())
            assert len(values) == int(row["seeds"]) == 3 and row["nets"] == "3"
            mean, std = row[f"{steps} steps"].split(" ± ")
            near(mean, statistics.fmean(values))
            near(std, statistics.stdev(values))


@pytest.mark.parametrize("by", ["num_stages", "blend"])
def test_every_number_of_the_comparisons_at_equal_poster_ipc(by):
    other, label = {"num_stages": ("blend", "num stages"), "blend": ("num_stages", "blend")}[by]
    other_label = other.replace("_", " ")
    means = SHOWN.tables[f"Means of {by} at equal poster IPC"]
    assert len(means) == 27
    for row in means:
        values = list(seeds(poster_ipc=float(row["poster ipc"]), **{by: row[label], other: row[other_label]}).values())
        low, high = interval(values)
        near(row["accuracy %"], statistics.fmean(values))
        near(row["std %"], statistics.stdev(values))
        near(row["low %"], low)
        near(row["high %"], high)
    pairs = SHOWN.tables[f"Differences of {by} at equal poster IPC"]
    assert len(pairs) == 27
    ps = []
    for row in pairs:
        same = {"poster_ipc": float(row["poster ipc"]), other: row[other_label]}
        a, b = seeds(**{by: row[label]}, **same), seeds(**{by: row["minus"]}, **same)
        differences = [a[seed] - b[seed] for seed in a]
        test = stats.ttest_rel(list(a.values()), list(b.values()))
        ps.append(test.pvalue)
        low, high = interval(differences)
        near(row["difference %"], statistics.fmean(differences))
        near(row["low %"], low)
        near(row["high %"], high)
        assert float(row["p"]) == pytest.approx(test.pvalue, rel=0.01) and row["seeds"] == "3"
    for row, corrected in zip(pairs, holm(ps), strict=True):
        assert float(row["p holm"]) == pytest.approx(corrected, rel=0.01)
        assert row["verdict"] == ("not shown" if corrected >= 0.05 else row["verdict"])


def holm(ps):
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected = {}
    for rank, i in enumerate(order):
        corrected[i] = max([min(1.0, (len(ps) - rank) * ps[i]), *corrected.values()])
    return [corrected[i] for i in range(len(ps))]


@pytest.mark.parametrize("x", ["poster_ipc", "cumulative_ipc", "num_stages", "stage", "steps"])
def test_every_point_of_the_curves(x):
    counts = {"poster_ipc": 27, "cumulative_ipc": 27, "num_stages": 27, "stage": 81, "steps": 81}
    assert len(SHOWN.points[x]) == counts[x]
    for label in SHOWN.points[x]:
        line, point, said = label.split("\n")
        named = dict(part.split(" ") for part in line.split(", "))
        at, mean = re.fullmatch(rf"{x} ([\d.]+): ([\d.]+)%", point).groups()
        if x == "cumulative_ipc":
            named["poster_ipc"] = float(at) / (1 if named["blend"] == "latest" else int(named["num_stages"]))
        else:
            named[x] = at
        if "poster_ipc" in named:
            named["poster_ipc"] = float(named["poster_ipc"])
        picked = {name: int(named.pop(name)) for name in ("stage", "steps") if name in named}
        values = list(seeds(**picked, **named).values())
        low, high, n = re.fullmatch(r"95% interval (-?[\d.]+) to ([\d.]+), n = (\d) seeds", said).groups()
        near(mean, statistics.fmean(values))
        assert int(n) == len(values) == 3
        near(low, interval(values)[0])
        near(high, interval(values)[1])


def test_the_answer_at_each_poster_size():
    table = SHOWN.tables["The best setting at each poster size"]
    assert len(table) == 3
    for row in table:
        stages, blend = re.fullmatch(r"num_stages (\d), blend (\w+)", row["best setting"]).groups()
        size = float(row["poster ipc"])
        validation = {}
        for trial, config in CONFIGS.items():
            if abs(ipc(config) - size) < 1e-3:
                accuracy = STAGES[trial, config["num_stages"]]["stage_accuracy"]
                assert accuracy["split"] == "validation"
                validation.setdefault((config["num_stages"], config["blend"]), []).append(accuracy["mean"])
        best = max(validation, key=lambda setting: statistics.fmean(validation[setting]))
        assert (int(stages), blend) == best
        values = list(seeds(poster_ipc=size, num_stages=stages, blend=blend).values())
        near(row["accuracy %"], statistics.fmean(values))
        low, high = row["95% interval"].split(" to ")
        near(low, interval(values)[0])
        near(high, interval(values)[1])
    first = table[0]
    lead = re.search(r'<p class="lead">(.*?)</p>', PAGE)[1]
    assert lead.startswith(f"At {first['poster ipc']} IPC, {first['best setting']} reaches {first['accuracy %']}%")


def test_captions_and_digests_are_those_of_the_records():
    assert len(SHOWN.alts) == 243
    for alt in SHOWN.alts:
        found = re.fullmatch(
            r"Poster of num_stages (\d), blend (\w+), (\d+)×(\d+) px, seed (\d), stage (\d): ([\d.]+)% after 200 steps",
            alt,
        )
        stages, blend, width, height, seed, stage, accuracy = found.groups()
        wanted = (int(stages), blend, int(width), int(height), int(seed))
        names = ("num_stages", "blend", "poster_width", "poster_height", "seed")
        (trial,) = [name for name, config in CONFIGS.items() if tuple(config[n] for n in names) == wanted]
        near(accuracy, EVALUATIONS[trial, int(stage)]["accuracy"]["200"]["mean"])
    rows = SHOWN.tables["Archive digests"]
    assert len(rows) == 243
    for row in rows:
        digest = STAGES[row["trial"].removeprefix("decide-digits/"), int(row["stage"])]["digests"]["poster.safetensors"]
        assert row["poster digest (SHA-256)"] == digest[:16] + "…"


def test_nothing_tells_of_the_machine_it_was_made_on():
    texts = re.sub(r"data:image/png;base64,[^\"]*", "", PAGE), json.dumps(LINES)
    for text in texts:
        assert not re.search(r"/(?:root|home|work|tmp|mnt|Users)\b", text)
    assert "…/digits/mlflow.db" in PAGE
