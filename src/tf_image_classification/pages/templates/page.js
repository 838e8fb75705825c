/* Sortable tables; all rows are in the page, the first ones are shown until all are asked for. */
const ROWS = 50;

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

/* A confusion matrix: counts or fractions, the order of its classes, the size of its cells. */
for (const table of document.querySelectorAll("table.confusion")) {
  const tools = table.closest("section");
  const head = table.tHead.rows[0];
  const rows = [...table.tBodies[0].rows];
  const columns = [head, ...rows].map(row => [row, [...row.cells]]);
  const links = [...table.querySelectorAll("td a")];
  links.forEach(link => { link.dataset.count = link.textContent; });
  const buttons = tools.querySelectorAll("[data-values]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      buttons.forEach(other => other.setAttribute("aria-pressed", other === button));
      for (const link of links) {
        link.textContent = button.dataset.values === "count"
          ? link.dataset.count : (100 * link.style.getPropertyValue("--fraction")).toFixed(0);
      }
    });
  }
  tools.querySelector(".cell-size")?.addEventListener("input", event => {
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

/* Filters of the examples: by outcome, classes, slice and file name. */
const all = $("all-examples");
if (all) {
  const figures = [...all.querySelectorAll("figure")];
  const fields = ["outcome", "actual", "predicted", "slice", "file-name"].map($).filter(Boolean);
  const has = (figure, key, wanted) => figure.dataset[key].trim().split(/\s+/).includes(wanted);
  const tests = {
    outcome: (figure, wanted) => Boolean(figure.dataset.wrong) === (wanted === "wrong"),
    actual: (figure, wanted) => has(figure, "actual", wanted),
    predicted: (figure, wanted) => has(figure, "predicted", wanted),
    slice: (figure, wanted) => has(figure, "slices", wanted),
    "file-name": (figure, wanted) =>
      figure.querySelector(".file").title.toLowerCase().includes(wanted.toLowerCase()),
  };
  const show = text => {
    const chosen = fields.filter(field => field.value);
    let count = 0;
    for (const figure of figures) {
      figure.hidden = !chosen.every(field => tests[field.id](figure, field.value));
      count += !figure.hidden;
    }
    const title = text || chosen.map(field => field.selectedOptions?.[0].textContent ?? field.value).join(", ");
    $("chosen").textContent = title && title + ": " + count + (count === 1 ? " image" : " images");
    if (chosen.length) all.open = true;
  };
  fields.forEach(field => field.addEventListener("input", () => show()));
  const reset = () => fields.forEach(field => { field.value = ""; });
  $("reset").addEventListener("click", () => { reset(); show(); });
  for (const link of document.querySelectorAll("a[data-actual]")) {
    link.addEventListener("click", event => {
      event.preventDefault();
      reset();
      $("actual").value = link.dataset.actual;
      $("predicted").value = link.dataset.predicted;
      show(link.title.replace(/^\d+ of \d+ /, ""));
      $("chosen").focus({ preventScroll: true });
      $("examples").scrollIntoView();
    });
  }
}

for (const box of document.querySelectorAll(".heat-switch")) {
  box.addEventListener("change", () => {
    document.body.classList.toggle("without-heat", !box.checked);
    document.querySelectorAll(".heat-switch").forEach(other => { other.checked = box.checked; });
  });
}

/* A picture enlarged, beside its heat map; the arrow keys show its neighbours. */
const frames = () => [...document.querySelectorAll("main .frame.zooms")].filter(frame => frame.offsetParent);
let viewer = null, shown = null;

function enlarge(frame) {
  if (!viewer) {
    viewer = element("dialog", { ariaLabel: "Enlarged picture" });
    viewer.addEventListener("click", event => { if (event.target === viewer) viewer.close(); });
    viewer.addEventListener("close", () => shown.focus());
    viewer.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && event.target.tagName !== "INPUT") move(step);
    });
    document.body.append(viewer);
  }
  shown = frame;
  const [picture, heat] = frame.querySelectorAll("img");
  const view = (...images) => element("div", { className: "frame" }, ...images.map(image => {
    const copy = image.cloneNode();
    copy.classList.remove("heat");
    if (image === heat) copy.style.objectFit = "fill";
    return copy;
  }));
  const caption = frame.closest("figure").querySelector("figcaption").cloneNode(true);
  caption.querySelectorAll(".marks").forEach(marks => marks.remove());
  const where = caption.querySelector(".file")?.title;
  if (where) caption.append(element("div", { className: "quiet", textContent: where }));
  const button = (text, action) => {
    const made = element("button", { type: "button", textContent: text });
    made.addEventListener("click", action);
    return made;
  };
  viewer.replaceChildren(
    element("div", { className: "views" }, view(picture), ...(heat ? [view(picture, heat)] : [])),
    caption,
    element("p", { className: "tools" }, button("← Previous", () => move(-1)), button("Close", () => viewer.close()), button("Next →", () => move(1))));
  if (!viewer.open) viewer.showModal();
}

function move(step) {
  const among = frames();
  enlarge(among[(among.indexOf(shown) + step + among.length) % among.length]);
}

for (const frame of document.querySelectorAll("figure .frame:has(img)")) {
  frame.classList.add("zooms");
  frame.tabIndex = 0;
  frame.setAttribute("role", "button");
  frame.setAttribute("aria-label", "enlarge " + frame.querySelector("img").alt);
  frame.addEventListener("click", () => enlarge(frame));
  frame.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(frame);
  });
}

/* The section that is being read, in the contents. */
const entries = new Map([...document.querySelectorAll(".side li a")].map(link => [link.hash.slice(1), link]));
const inView = new Set();
const observer = new IntersectionObserver(changes => {
  for (const { target, isIntersecting } of changes) inView[isIntersecting ? "add" : "delete"](target.id);
  const current = [...entries.keys()].find(id => inView.has(id));
  if (!current) return;
  entries.forEach(link => link.removeAttribute("aria-current"));
  entries.get(current).setAttribute("aria-current", "true");
}, { rootMargin: "-10% 0px -60% 0px" });
document.querySelectorAll("main section[id]").forEach(section => observer.observe(section));

/* Offer rows of texts as a CSV file. */
function saveCsv(name, rows) {
  const cell = text => /[",\r\n]|^\s|\s$/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const text = rows.map(row => row.map(cell).join(",") + "\n").join("");
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
