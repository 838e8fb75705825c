"use strict";
/* Sortable tables; all rows are in the page, the first ones are shown until all are asked for. */
const ROWS = 50;

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const fold = () => [...body.rows].forEach((row, i) => row.classList.toggle("folded", i >= ROWS && !isWhole));
  let isWhole = rows.length <= ROWS;
  let sorted = null;
  if (!isWhole) {
    const more = element("button", { type: "button", textContent: "Show all " + rows.length + " rows" });
    more.addEventListener("click", () => { isWhole = true; more.remove(); fold(); });
    table.parentNode.after(more);
    fold();
  }
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent || rows.length < 2) return;
    const button = element("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    const isNumber = head.classList.contains("number");
    const valueOf = row => {
      const cell = row.cells[column];
      return isNumber ? parseFloat(cell.dataset.value ?? "NaN") : cell.textContent.trim();
    };
    button.addEventListener("click", () => {
      const isDown = sorted === head ? head.getAttribute("aria-sort") !== "descending" : isNumber;
      const sign = isDown ? -1 : 1;
      rows.sort((a, b) => {
        const [x, y] = [valueOf(a), valueOf(b)];
        if (!isNumber) return sign * x.localeCompare(y, undefined, { numeric: true });
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return sign * (x - y);
      });
      body.append(...rows);
      sorted?.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      sorted = head;
      fold();
    });
  });
}

/* The order of the classes of a confusion matrix, and the size of its cells. */
for (const table of document.querySelectorAll("table.confusion")) {
  const tools = table.closest("section");
  const head = table.tHead.rows[0];
  const rows = [...table.tBodies[0].rows];
  const columns = [head, ...rows].map(row => [row, [...row.cells]]);
  tools.querySelector(".cell-size").addEventListener("input", event => {
    table.style.setProperty("--cell", event.target.value + "rem");
  });
  tools.querySelector(".class-order").addEventListener("change", event => {
    const key = event.target.value;
    const sign = key === "count" ? -1 : 1;
    const places = rows.map((_, i) => i).sort((a, b) => {
      const [x, y] = [rows[a].dataset[key], rows[b].dataset[key]];
      return key === "name" ? x.localeCompare(y) : sign * (x - y);
    });
    for (const [row, cells] of columns) row.append(...places.map(i => cells[i + 1]));
    table.tBodies[0].append(...places.map(i => rows[i]));
  });
}

/* The examples of one cell of a matrix, or of one outcome. */
const all = document.getElementById("all-examples");
if (all) {
  const figures = [...all.querySelectorAll("figure")];
  const outcome = document.getElementById("outcome");
  const title = document.getElementById("chosen");
  const show = (isShown, text) => {
    let count = 0;
    for (const figure of figures) {
      figure.hidden = !isShown(figure);
      count += !figure.hidden;
    }
    title.textContent = text && text + ": " + count + (count === 1 ? " image" : " images");
  };
  outcome.addEventListener("change", () => {
    const wanted = outcome.value;
    show(figure => !wanted || Boolean(figure.dataset.wrong) === (wanted === "wrong"),
      wanted && outcome.selectedOptions[0].textContent);
  });
  for (const link of document.querySelectorAll("[data-pair]")) {
    link.addEventListener("click", event => {
      event.preventDefault();
      all.open = true;
      outcome.value = "";
      show(figure => figure.dataset.pairs.split(" ").includes(link.dataset.pair), link.title);
      title.focus({ preventScroll: true });
      title.scrollIntoView();
    });
  }
}

for (const box of document.querySelectorAll(".heat-switch")) {
  box.addEventListener("change", () => {
    document.body.classList.toggle("without-heat", !box.checked);
    document.querySelectorAll(".heat-switch").forEach(other => { other.checked = box.checked; });
  });
}
