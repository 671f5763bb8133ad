"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: press a heading to sort, once more to turn it round.
for (const table of all("table.sortable")) {
  const headings = all("th", table);
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const numbers = !Number.isNaN(Number(x)) && !Number.isNaN(Number(y));
      return (down ? -1 : 1) * (numbers ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  }));
}

// Tabs: click, or arrow keys.
const tabs = all("[role=tab]");
const show = (tab) => tabs.forEach((other) => {
  const on = other === tab;
  other.setAttribute("aria-selected", on);
  other.tabIndex = on ? 0 : -1;
  document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
});
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    show(next);
    next.focus();
  });
});

// Charts: a tip at the point under the pointer or focus; arrow keys walk the points; names hide lines.
for (const chart of all(".chart")) {
  const plot = chart.querySelector(".plot");
  const tip = chart.querySelector(".tip");
  const lines = all(".series", plot);
  const shown = () => lines.filter((line) => !line.classList.contains("off"));
  const points = (line) => all(".point", line);
  const reach = () => {
    all(".point", plot).forEach((point) => { point.tabIndex = -1; });
    const first = shown()[0];
    if (first) points(first)[0].tabIndex = 0;
  };
  const tell = (point) => {
    lines.forEach((line) => line.classList.toggle("lit", line === point.parentNode));
    plot.classList.add("dim");
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const [box, at] = [plot.getBoundingClientRect(), point.querySelector(".hit").getBoundingClientRect()];
    const middle = at.left + at.width / 2 - box.left;
    tip.style.left = `${Math.max(0, Math.min(middle - tip.offsetWidth / 2, box.width - tip.offsetWidth))}px`;
    const above = at.top - box.top - tip.offsetHeight - 6;
    tip.style.top = `${above < -20 ? at.bottom - box.top + 6 : above}px`;
  };
  const quiet = () => {
    plot.classList.remove("dim");
    tip.hidden = true;
  };
  for (const point of all(".point", plot)) {
    point.addEventListener("pointerenter", () => tell(point));
    point.addEventListener("pointerleave", quiet);
    point.addEventListener("focus", () => tell(point));
    point.addEventListener("blur", quiet);
    point.addEventListener("keydown", (event) => {
      const [row, line] = [points(point.parentNode), shown()];
      const [i, j] = [row.indexOf(point), line.indexOf(point.parentNode)];
      const next = {
        ArrowRight: () => row[i + 1], ArrowLeft: () => row[i - 1],
        ArrowDown: () => line[j + 1] && points(line[j + 1])[Math.min(i, points(line[j + 1]).length - 1)],
        ArrowUp: () => line[j - 1] && points(line[j - 1])[Math.min(i, points(line[j - 1]).length - 1)],
        Escape: () => { quiet(); },
      }[event.key];
      if (!next) return;
      event.preventDefault();
      next()?.focus();
    });
  }
  const set = (button, on) => {
    button.setAttribute("aria-pressed", on);
    plot.querySelector(`.series[data-series="${button.dataset.series}"]`).classList.toggle("off", !on);
    reach();
  };
  const names = all(".legend [data-series]", chart);
  for (const name of names) {
    name.addEventListener("click", () => set(name, name.getAttribute("aria-pressed") !== "true"));
  }
  chart.querySelector(".legend .all")?.addEventListener("click", () => {
    const on = names.every((name) => name.getAttribute("aria-pressed") !== "true");
    names.forEach((name) => set(name, on));
  });
  reach();
}

// Gallery: the first seed of each setting, or every one.
document.getElementById("seeds")?.addEventListener("click", ({ currentTarget }) => {
  const on = currentTarget.getAttribute("aria-pressed") !== "true";
  currentTarget.setAttribute("aria-pressed", on);
  document.querySelector("#posters .gallery").classList.toggle("every", on);
});

// On paper everything is there: what is folded is opened, and folded again.
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((one) => {
  one.open = true;
  one.dataset.folded = "";
}));
addEventListener("afterprint", () => document.querySelectorAll("[data-folded]").forEach((one) => {
  one.open = false;
  delete one.dataset.folded;
}));
