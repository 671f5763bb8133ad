"""The report: what it says is what the archive says; what it shows works in a real browser."""

import io
import json
import re
import shutil
import statistics
from pathlib import Path

import pytest
from archives import given_up, progress, sweep_record, write_evaluations, write_stage, write_sweep
from browsers import chromium
from frames import rows, spread
from PIL import Image

from ppodd.archive import Archive, Digests, FailureRecord
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import BadInput, PpoddError
from results.analysis.answer import answers
from results.analysis.comparisons import compare
from results.analysis.selection import choose
from results.analysis.tidy_frame import frame
from results.analysis.trial_summaries import trial_remarks, trials
from results.reporting import effects, parent_run
from results.reporting.effects import in_short
from results.reporting.html_report import gather, page, report
from results.reporting.parent_run import publish
from results.tracking import schema
from results.tracking.store import open_store
from results.tracking.syncing import sync

EVALUATION = EvaluationConfig(nets=3)
HALF = "half,num_stages=2,blend=dynamic,poster_width=24,poster_height=12,seed=8"  # as long as names of sweeps get
BLENDS = ("dynamic", "uniform", "latest")


def accuracy(config, stage, mode, steps):
    """More of everything is better; a seed adds to all settings, and a little to each by itself."""
    own = ((len(config.blend) * config.num_stages * config.poster_width) % 7 + 1) * config.seed**2 / 10
    return 50 + 3 * stage * (config.blend != "latest") + steps + config.poster_width / 4 + config.seed + own


def picture(stage):
    file = io.BytesIO()
    Image.new("L", (24, 12), 60 * stage).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """3 blends × 2 num_stages × 2 sizes × 3 seeds; a trial that failed, one under way and one stopped early."""
    from tiny import TINY

    archive = Archive(tmp_path_factory.mktemp("report") / "archive")
    configs = [
        {**TINY, "blend": blend, "num_stages": stages, "poster_width": width, "seed": seed}
        for blend in BLENDS
        for stages in (1, 2)
        for width in (24, 32)
        for seed in (0, 1, 2)
    ]
    write_sweep(archive, "decide", configs, EVALUATION, accuracy)
    for name, extra in (("bad", {"seed": 7}), (HALF, {"seed": 8}), ("early", {"seed": 9})):
        trial, config = archive.trial("decide", name), build(DistillConfig, {**TINY, **extra, "name": name})
        trial.create(config, resume=False)
        write_stage(trial, config, 1)
        write_evaluations(trial, config, 1, EVALUATION, accuracy)
    archive.trial("decide", "bad").write_failure(
        FailureRecord(error="NonFinite: <script>alert(1)</script>", failed_at=1.7e9)
    )
    archive.trial("decide", HALF).write_progress(progress(meta_steps=4))
    for name in archive.trials("decide"):
        trial = archive.trial("decide", name)
        for stage in trial.stages():
            trial.folder.write(f"stage-{stage:02d}/poster.png", picture(stage))
            record = trial.stage(stage)
            mean = record.stage_accuracy.mean + stage + (record.blend_strategy == "dynamic")  # validation chooses
            changes = {
                "digests": Digests.of(record.digests.poster, picture(stage)),
                "stage_accuracy": record.stage_accuracy.model_copy(update={"mean": mean}),
            }
            trial.folder.write_json(f"stage-{stage:02d}/stage.json", record.model_copy(update=changes).to_json())
    return archive


@pytest.fixture(scope="module")
def uri(archive, empty_store):
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = f"sqlite:///{archive.url}/mlflow.db"
    assert sync(archive.url, uri).problems == []
    client = open_store(uri)
    config = archive.trial("decide", "t000").config()
    failed = given_up(config, "t", "OutOfMemory: 3 of 2 GiB", arch=("convnet4",), mode=("latest",))
    runs = {run.data.tags[schema.KEY]: run.info.run_id for run in client.search_runs(["1"])}
    client.set_tag(runs["decide/early"], schema.STATUS, "stopped")
    client.set_tag(runs["decide/t000"], schema.EVALUATION_FAILURES, schema.evaluation_failures([failed]))
    return uri


@pytest.fixture(scope="module")
def made(uri):
    return gather(uri)


@pytest.fixture(scope="module")
def file(uri, tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "report.html"
    report(uri, str(path))
    return path


def measured(archive, blend, stages, width, steps):
    """The accuracies of a setting's seeds, read from the JSON of the archive alone."""
    found = []
    for name in archive.trials("decide"):
        trial = archive.trial("decide", name)
        config = json.loads(trial.folder.read("config.json"))
        wanted = (config["blend"], config["num_stages"], config["poster_width"]) == (blend, stages, width)
        if wanted and len(trial.stages()) == stages:
            (evaluation,) = trial.evaluations(stages)
            found.append(evaluation.accuracy[steps].mean)
    return found


def test_every_number_of_the_settings_is_that_of_the_archives_json(archive, made):
    columns = made.settings.columns
    assert len(made.settings.rows) == 12
    for row in made.settings.rows:
        text = dict(zip(columns, (cell for cell, _ in row), strict=True))
        width = {0.45: 24, 0.6: 32}[float(text["poster_ipc"])]
        for steps in (2, 4):
            values = measured(archive, text["blend"], int(text["num_stages"]), width, steps)
            assert len(values) == int(text["seeds"]) == 3
            assert text[f"{steps} steps"] == f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"


def test_the_answer_comes_first_with_its_interval_seeds_and_budgets(archive, made):
    first = made.answers[0]
    assert first.poster_ipc == 0.6 and first.steps == 4 and first.accuracy.n == 3 and first.others == 3
    assert first.best == "num_stages 2, blend dynamic"
    values = measured(archive, first.best.split("blend ")[1], 2, 32, 4)
    assert first.accuracy.mean == pytest.approx(statistics.fmean(values))
    assert first.sentences[0].startswith(f"At 0.6 IPC, {first.best} reaches {statistics.fmean(values):.1f}%")
    assert "n = 3 seeds" in first.sentences[0] and "beyond chance" in first.sentences[1]
    assert any("Not an equal cumulative budget" in text for text in first.sentences)


def test_captions_blends_and_digests_are_those_of_the_archive(archive, made):
    trial = archive.trial("decide", "t003")
    record = trial.stage(1)
    digests = {(trial, stage): digest for (trial, _), (stage, _), (digest, _) in made.archive.rows}
    assert digests["decide/t003", "1"] == record.digests.poster[:16] + "…"
    captions = {picture.text for card in made.cards for picture in card.pictures}
    assert f"stage 1: {trial.evaluations(1)[0].accuracy[4].mean:.1f}% after 4 steps" in captions
    blends = {blend.title: blend.stages for blend in made.blends}
    assert blends["num_stages 2, blend uniform"] == [(1, [1.0]), (2, [0.5, 0.5])]


def test_failed_stopped_and_half_finished_trials_and_evaluations_are_shown_as_such(made):
    assert [(p.trial, p.status, p.stages) for p in made.problems] == [
        ("decide/bad", "failed", "1 of 2"), ("decide/early", "stopped", "1 of 2"),
        (f"decide/{HALF}", "half-finished", "1 of 2"), ("decide/t000", "evaluation failed", "1 of 1"),
    ]  # fmt: skip
    texts = [problem.text for problem in made.problems]
    assert texts[1] == "stopped early, after stage 1: it counts up to there in courses"
    assert texts[2:] == [
        "in stage 2, meta-step 3 of 4", "stage 1 (convnet4, latest): OutOfMemory: 3 of 2 GiB",
    ]  # fmt: skip
    assert made.unfinished == "1 failed, 1 stopped, 1 half-finished, 1 evaluation failed"
    facts = dict(made.facts)
    assert (facts["trials finished"], facts["failed"], facts["stopped"]) == ("36 of 39", "1", "1")
    assert made.remarks[-2:] == [
        f"sweep decide is half-finished: 36 of 39 trials finished (failed: bad; half-finished: {HALF}; stopped: early)",
        "evaluation failed: t000 stage 1 (convnet4, latest): OutOfMemory: 3 of 2 GiB",
    ]


def test_trials_of_a_sweep_that_were_not_begun_or_evaluated_are_counted(tmp_path, empty_store):
    from tiny import TINY

    archive = Archive(tmp_path / "archive")
    configs = [build(DistillConfig, {**TINY, "name": name, "num_stages": 1}) for name in ("a", "b", "c")]
    archive.write_sweep(sweep_record("s", configs, EVALUATION))
    config = configs[0]
    archive.trial("s", "a").create(config, resume=False)
    write_stage(archive.trial("s", "a"), config, 1)
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = f"sqlite:///{archive.url}/mlflow.db"
    sync(archive.url, uri)
    chosen = choose(uri)
    assert trial_remarks(chosen, trials(chosen)) == [
        "sweep s is half-finished: 1 of 3 trials finished (not begun: 2)",
        "not evaluated yet: 1 finished trial: a",
    ]


def test_the_answer_says_what_each_setting_does(made):
    (short,) = [effect.short for effect in made.effects if (effect.by, effect.at) == ("num_stages", "poster IPC")]
    assert short == "num_stages: no difference shown to be real (1 tested)."
    text = page(made)
    assert text.index(short) < text.index('<section id="curves">')
    trials = [*spread("a", 5.0, 6.0, 7.0), *spread("b", 6.0, 7.1, 8.0), *spread("c", 2.0, 9.5, 7.0)]
    pairs = compare(rows(trials), "blend").pairs
    p = pairs["p_holm"].min()
    assert in_short(pairs, "blend") == f"blend: b above a by 1.0 points (p {p:.2g}); 2 of 3 not shown to be real."


def test_effects_are_shown_at_each_equal_budget(made):
    assert {(effect.by, effect.at) for effect in made.effects} >= {
        ("num_stages", "poster IPC"), ("num_stages", "cumulative IPC"), ("num_stages", "meta-steps"),
        ("blend", "poster IPC"), ("blend", "cumulative IPC"), ("blend", "meta-steps"),
    }  # fmt: skip
    assert made.effects[0].sentences[0].startswith("num_stages 2 against 1, over all rows: +")


def test_of_more_differences_than_a_page_holds_the_most_telling_are_shown(monkeypatch):
    trials = [*spread("a", 5.0, 6.0, 7.0), *spread("b", 6.0, 7.1, 8.0), *spread("c", 2.0, 9.5, 7.0)]
    monkeypatch.setattr(effects, "_ROWS", 1)
    shown = effects.effects(rows(trials), None)[0]
    assert [[text for text, _ in row][1:3] for row in shown.pairs.rows] == [["b", "a"]]
    assert shown.notes[-1].startswith("shown are the 1 of 3 differences that have the least p; `ppodd results compare")


def test_the_file_is_whole_the_same_each_time_and_escapes_what_it_shows(uri, file):
    text = file.read_text()
    assert text == page(gather(uri))
    assert "&lt;script&gt;alert(1)" in text and "<script>alert(1)" not in text
    loaded = re.sub(r"<a [^>]*>", "", text)  # what is followed, not fetched
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', loaded) == []  # nothing from elsewhere


def test_a_sweep_without_results_has_a_report_that_says_so(tmp_path, empty_store):
    from tiny import TINY

    archive = Archive(tmp_path / "archive")
    config = build(DistillConfig, {**TINY, "name": "t000"})
    archive.write_sweep(sweep_record("s", [config], EVALUATION))
    archive.trial("s", "t000").create(config, resume=False)
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = f"sqlite:///{archive.url}/mlflow.db"
    with pytest.raises(BadInput, match="holds no trials yet"):
        gather(uri)
    sync(archive.url, uri)
    made = gather(uri)
    assert made.answers == [] and made.charts == [] and made.problems[0].text == "not started"
    assert "No answer yet" in page(made)


def test_the_parent_run_shows_curves_table_answer_and_posters_once_all_is_evaluated(tmp_path, empty_store):
    from tiny import TINY

    archive = Archive(tmp_path / "archive")
    write_sweep(archive, "s", [{**TINY, "num_stages": n, "seed": s} for n in (1, 2) for s in (0, 1)], EVALUATION)
    archive.write_sweep(archive.sweep("s").model_copy(update={"varied": ("num_stages", "seed")}))
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = f"sqlite:///{archive.url}/mlflow.db"
    assert sync(archive.url, uri, publish=listing_nothing).problems == []
    client = open_store(uri)
    experiment = client.get_experiment_by_name("s")
    runs = {run.data.tags[schema.KEY]: run for run in client.search_runs([experiment.experiment_id])}
    parent, trial = runs["s"], runs["s/t002"]
    paths = {f.path for folder in ("", "curves", "posters") for f in client.list_artifacts(parent.info.run_id, folder)}
    assert paths >= {"table.md", "answer.md", "curves/accuracy-vs-num-stages.png", "posters/t003.png"}
    assert trial.data.tags["mlflow.runName"] == "2st s0" and trial.data.tags[schema.SETTING] == "2st"
    assert "Group the runs" in experiment.tags[schema.NOTE] and "How to read it" in parent.data.tags[schema.NOTE]
    table = client.download_artifacts(parent.info.run_id, "table.md", str(tmp_path))
    assert "| num_stages |" in Path(table).read_text()
    (artifact,) = (tmp_path / "archive/mlflow-artifacts").rglob("table.md")
    written = artifact.stat().st_mtime_ns
    sync(archive.url, uri, publish=publish)
    assert artifact.stat().st_mtime_ns == written  # nothing new, nothing written
    trial = archive.trial("s", "t000")
    write_evaluations(trial, trial.config(), 1, EvaluationConfig(nets=2))
    sync(archive.url, uri, publish=publish)
    assert artifact.stat().st_mtime_ns > written


def listing_nothing(*of):
    """`publish`, where the archive's trials cannot be listed: the sync has done that."""
    with pytest.MonkeyPatch.context() as patch:
        for listing in ("states", "trials"):
            patch.setattr(Archive, listing, None)
        publish(*of)


def test_of_many_trials_the_same_is_made_by_a_process_of_its_own(uri, archive, tmp_path):
    found, stages = {}, {name: state.stages[-1] for name, state in archive.states("decide").items()}
    for name, make in {"here": parent_run.summarise, "apart": parent_run._made_apart}.items():
        (folder := tmp_path / name).mkdir()
        found[name] = (
            make(uri, archive.url, "decide", str(folder), stages),
            sorted(path.name for path in folder.rglob("*")),
        )
    assert found["here"] == found["apart"] and {"report.html", "answer.md"} <= set(found["apart"][1])
    with pytest.raises(PpoddError, match=r"BadInput: no sweep 'other' in .*there: decide"):
        parent_run._made_apart(uri, archive.url, "other", str(tmp_path), stages)


@pytest.mark.parametrize("output", ["report.pdf", "report"])
def test_a_report_is_html(uri, output):
    with pytest.raises(BadInput, match=r"a report is one file that ends in \.html"):
        report(uri, output)


def test_the_report_follows_where(uri):
    made = gather(uri, conditions=["blend=dynamic"])
    assert len(made.settings.rows) == 4 and all("blend" not in answer.best for answer in made.answers)
    assert len(frame(uri)) > 0


def test_the_report_links_the_stores_own_pages_of_its_sweep(file, uri):
    experiment = open_store(uri).get_experiment_by_name("decide").experiment_id
    links = re.findall(r'href="(http://127.0.0.1:5000/[^"]+)"', file.read_text())
    assert len(links) == 2 and all(f"#/experiments/{experiment}/runs?" in link and "=ppodd-" in link for link in links)


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def opened(browser, file):
    """The report as it opens from disk, at a width and in a colour scheme."""

    def open_at(width, scheme="light"):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(file.as_uri())
        return browser

    yield open_at
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_desktop(opened, width):
    page = opened(width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    lead = page.find_element("css selector", ".lead")
    assert lead.is_displayed() and lead.location["y"] < 900
    sizes = page.execute_script(
        "return [...document.querySelectorAll('.chart:not([hidden]) svg .grid text')].map(t => {"
        "const r = t.getBoundingClientRect(); return r.height})"
    )
    assert min(size for size in sizes if size) >= 9  # px: legible
    apart = page.execute_script(
        "const box = e => e.getBoundingClientRect(), meets = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 &&"
        " a.top < b.bottom - 1 && b.top < a.bottom - 1;"
        "const grid = document.querySelector('.chart:not([hidden]) svg .grid');"
        "const titles = [...grid.querySelectorAll('.axis')], ticks = [...grid.querySelectorAll('text:not(.axis)')];"
        "return [titles.length, titles.every(t => box(t).width && !ticks.some(k => meets(box(t), box(k))))]"
    )
    assert apart == [2, True]


def test_on_paper_no_table_is_cut_and_nothing_is_folded(opened):
    page = opened(718)  # A4 between its margins
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    for side in ("Height", "Width"):
        cut = (
            f"return [...document.querySelectorAll('.scroll')].filter(s => s.scroll{side} > s.client{side} + 1).length"
        )
        assert page.execute_script(cut) == 0
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") == 0
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") > 0
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_pictures_have_their_size_before_they_are_drawn(file):
    pictures = re.findall(r"<img [^>]*>", file.read_text())
    assert pictures and all('width="24" height="12"' in picture for picture in pictures)


def test_where_nothing_could_be_tested_nothing_is_said_to_be(tmp_path):
    two = rows([*spread("dynamic", 50, 51), *spread("latest", 40, 42)])
    said = in_short(compare(two, "blend").pairs, "blend")
    assert said == "blend: no difference could be tested (fewer than 3 shared seeds)."


def test_a_best_setting_that_the_test_set_has_behind_says_so():
    table = rows([*spread("dynamic", 50, 51, 52), *spread("latest", 60, 62, 61)])
    table.loc[table["blend"] == "latest", "stage_accuracy_pct"] -= 30
    (answer,) = answers(table)
    assert answer.best == "blend dynamic" and any("runner-up ahead" in said for said in answer.sentences)


def test_dark_and_light_differ_and_both_can_be_read(opened):
    colours = {}
    for scheme in ("light", "dark"):
        page = opened(1280, scheme)
        style = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        colours[scheme] = [sum(map(int, re.findall(r"\d+", c)[:3])) / 3 for c in page.execute_script(style)]
    assert colours["light"][0] > 230 > 60 > colours["light"][1] and colours["dark"][0] < 60 < 200 < colours["dark"][1]


def test_lines_can_be_hidden_and_shown(opened):
    page = opened(1280)
    name = page.find_element("css selector", ".chart:not([hidden]) .legend button")
    line = page.find_element("css selector", ".chart:not([hidden]) .series")
    assert line.is_displayed()
    name.click()
    assert not line.is_displayed() and name.get_attribute("aria-pressed") == "false"
    name.click()
    assert line.is_displayed()
    everything = page.find_element("css selector", ".chart:not([hidden]) .legend .all")
    everything.click()
    assert not any(s.is_displayed() for s in page.find_elements("css selector", ".chart:not([hidden]) .series"))
    everything.click()
    assert line.is_displayed()


def test_a_point_tells_its_numbers_on_hover_and_focus_and_arrows_walk(opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = opened(1280)
    chart = page.find_element("css selector", ".chart:not([hidden])")
    first, second = chart.find_elements("css selector", ".series .point")[:2]
    tip = chart.find_element("css selector", ".tip")
    assert not tip.is_displayed()
    ActionChains(page).move_to_element(first.find_element("css selector", ".hit")).perform()
    assert tip.is_displayed() and "95% interval" in tip.text and "n = 3 seeds" in tip.text
    page.execute_script("arguments[0].focus()", first)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element == second and second.get_attribute("aria-label") == tip.text
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert page.switch_to.active_element not in (first, second)


def test_tabs_show_one_curve_each_by_mouse_and_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened(1280)
    tabs = page.find_elements("css selector", "[role=tab]")
    assert [tab.text for tab in tabs][:3] == ["Poster IPC", "Cumulative IPC", "Number of stages"]
    shown = lambda: [c.get_attribute("id") for c in page.find_elements("css selector", ".chart") if c.is_displayed()]  # noqa: E731
    assert shown() == ["chart-poster_ipc"]
    tabs[2].click()
    assert shown() == ["chart-num_stages"]
    tabs[2].send_keys(Keys.ARROW_LEFT)
    assert shown() == ["chart-cumulative_ipc"]


def test_a_table_sorts_by_number_both_ways(opened):
    page = opened(1280)
    heading = page.find_element("css selector", "#settings th:nth-last-child(2) button")

    def column():
        cells = page.find_elements("css selector", "#settings tbody td:nth-last-child(2)")
        return [float(cell.get_attribute("data-value")) for cell in cells]

    heading.click()
    assert column() == sorted(column())
    heading.click()
    assert column() == sorted(column(), reverse=True) and len(set(column())) > 3
    sorted_by = page.find_element("css selector", "#settings th:nth-last-child(2)")
    assert sorted_by.get_attribute("aria-sort") == "descending"


def test_the_gallery_shows_pictures_of_the_first_seed_and_of_all(opened):
    page = opened(1280)
    shown = lambda: [card for card in page.find_elements("css selector", "#posters .card") if card.is_displayed()]  # noqa: E731
    first = len(shown())
    button = page.find_element("css selector", "#seeds")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert len(shown()) > 2 * first
    loaded = "return [...document.querySelectorAll('#posters img')].every(i => i.src.startsWith('data:image/png'))"
    assert page.execute_script(loaded)


def test_everything_that_acts_can_be_reached_by_the_tab_key(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened(1280)
    reached = set()
    for _ in range(60):
        page.switch_to.active_element.send_keys(Keys.TAB)
        active = page.switch_to.active_element
        reached.add((active.tag_name, active.get_attribute("class"), active.get_attribute("role")))
    kinds = {(tag, role) for tag, _, role in reached}
    assert {("a", None), ("button", "tab"), ("g", "img"), ("summary", None), ("button", None)} <= {
        (tag, role or None) for tag, role in kinds
    }
