/* Marks of images (keep, remove, relabel), and the CSV that they give. */
const corrections = JSON.parse($("corrections")?.textContent ?? "null");
if (corrections) {
  const { header, rows, classes, broken } = corrections;
  const storageKey = "tfic inspect " + location.pathname + " " + rows.length + " " + rows[0]?.[0];
  const figuresOf = new Map();
  let marks = new Map();  // by row: { mark, values: class by number of the label }

  classes.forEach((names, i) => {
    const list = element("datalist", { id: "classes-" + i }, ...names.map(name => element("option", { value: name })));
    document.body.append(list);
  });

  /* Without storage, e.g. in a private window, marks last as long as the page. */
  const store = () => { try { localStorage.setItem(storageKey, JSON.stringify([...marks])); } catch { } };
  const stored = () => { try { return new Map(JSON.parse(localStorage.getItem(storageKey) ?? "[]")); } catch { return new Map(); } };

  const setMark = (row, mark, label, value) => {
    const values = mark === "relabel" ? { ...marks.get(row)?.values, [label]: value } : {};
    if (mark) marks.set(row, { mark, values });
    else marks.delete(row);
  };

  function update() {
    for (const [row, figures] of figuresOf) {
      const { mark = "", values = {} } = marks.get(row) ?? {};
      for (const figure of figures) {
        const { label, suggestion } = figure.dataset;
        const value = values[label];
        const isSuggested = value === suggestion;
        figure.dataset.state = mark;
        figure.querySelectorAll("[data-mark]").forEach(button =>
          button.setAttribute("aria-pressed", mark === button.dataset.mark && (mark !== "relabel"
            || value !== undefined && isSuggested === Boolean(button.dataset.value))));
        const input = figure.querySelector("input");
        const isEdited = document.activeElement === input;
        input.hidden = value === undefined || isSuggested && !isEdited;
        if (!isEdited) input.value = value ?? rows[row][1 + Number(label)];
      }
    }
    const count = mark => [...marks.values()].filter(one => one.mark === mark).length;
    const texts = [["kept", count("keep")], ["removed", count("remove")], ["relabelled", count("relabel")]]
      .filter(([, number]) => number).map(([text, number]) => number + " " + text);
    const unusable = broken.length ? " " + broken.length + " that cannot be decoded are left out." : "";
    $("marked").textContent = (texts.length ? "Marked: " + texts.join(", ") + "." : "Mark images with Keep, Remove or Relabel.") + unusable;
    $("clear").disabled = !marks.size;
    document.querySelector(".marked").classList.toggle("some", marks.size);
  }

  function change(row, mark, label, value) {
    setMark(row, mark, label, value);
    store();
    update();
  }

  function controls(figure) {
    const row = Number(figure.dataset.row);
    const { label, suggestion } = figure.dataset;
    const button = (mark, text, value) => {
      const made = element("button", { type: "button", textContent: text });
      made.dataset.mark = mark;
      if (value) made.dataset.value = value;
      made.addEventListener("click", () => {
        const isOn = made.getAttribute("aria-pressed") === "true";
        change(row, isOn ? "" : mark, label, value ?? rows[row][1 + Number(label)]);
        if (mark === "relabel" && !value && !isOn) figure.querySelector("input").select();
      });
      return made;
    };
    const input = element("input", { type: "text", hidden: true, ariaLabel: "new label of " + (figure.querySelector(".file")?.textContent ?? "") });
    input.setAttribute("list", "classes-" + label);
    input.addEventListener("input", () => change(row, "relabel", label, input.value));
    const made = element("div", { className: "marks" },
      ...(suggestion ? [button("relabel", "Relabel to " + suggestion, suggestion)] : []),
      button("keep", "Keep"), button("remove", "Remove"), button("relabel", suggestion ? "Other" : "Relabel"), input);
    figure.querySelector("figcaption").append(made);
    figuresOf.set(row, [...(figuresOf.get(row) ?? []), figure]);
  }

  document.querySelectorAll("figure[data-row]").forEach(controls);
  for (const groups of document.querySelectorAll("[data-removable]")) {
    const removable = groups.dataset.removable.split(" ").filter(Boolean).map(Number);
    if (!removable.length) continue;
    const button = element("button", { type: "button", textContent: "Mark " + removable.length + " as removed" });
    button.addEventListener("click", () => {
      removable.forEach(row => setMark(row, "remove"));
      store();
      update();
    });
    groups.before(element("p", { className: "tools" }, button));
  }

  $("download").addEventListener("click", () => {
    const left = new Set(broken);
    const lines = [header];
    rows.forEach((cells, row) => {
      const { mark, values = {} } = marks.get(row) ?? {};
      if (mark === "remove" || left.has(row)) return;
      const own = [...cells];
      for (const [label, value] of Object.entries(values)) own[1 + Number(label)] = value.trim() || own[1 + Number(label)];
      lines.push(own);
    });
    saveCsv("corrected.csv", lines);
  });
  $("clear").addEventListener("click", () => { marks = new Map(); store(); update(); });

  marks = stored();
  document.querySelector(".marked").hidden = false;
  update();
}
