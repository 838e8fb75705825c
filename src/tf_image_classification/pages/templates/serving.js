/* The page of a server: its model, predictions of images, and requests to copy. */
const percent = value => (100 * value).toFixed(1) + " %";

function labelOf(name, label, isOnly) {
  const rows = label.top.map(one => {
    const bar = element("div", { className: "bar" });
    bar.style.width = percent(one.probability).replace(" ", "");
    return element("tr", {},
      element("th", { scope: "row" }, element("bdi", { textContent: one.name })),
      element("td", { className: "bars" }, bar),
      element("td", { className: "number", textContent: percent(one.probability) }));
  });
  const parts = [element("h3", {}, isOnly ? "" : name + ": ", element("bdi", { textContent: label.name }))];
  if (rows.length) parts.push(element("table", { ariaLabel: name }, element("tbody", {}, ...rows)));
  if (label.set) parts.push(element("p", { className: "quiet", textContent: (100 * label.coverage).toFixed(0) + " % prediction set: " + label.set.join(", ") }));
  return parts;
}

/* A card for one file; the requests of several files follow one another. */
let last = Promise.resolve();

function classify(file) {
  const name = element("bdi", { textContent: file.name });
  const state = element("p", { className: "quiet", textContent: "waiting" });
  const frame = element("div", { className: "frame" });
  const found = element("div", {}, state);
  const card = element("article", { className: "card" },
    element("div", {}, frame, element("p", { className: "file", title: file.name }, name)), found);
  $("results").hidden = false;
  $("list").append(card);
  const show = explained => {
    const labels = Object.entries(explained.labels);
    frame.append(element("img", { src: explained.seen, alt: file.name + " as the model sees it" }));
    const heat = labels.find(([, label]) => label.heat)?.[1].heat;
    if (heat) frame.append(element("img", { className: "heat", src: heat, alt: "" }));
    const unknown = explained.unknown.is_unknown ? [element("p", { role: "status" }, element("strong", { textContent: "Unknown: none of the classes. The nearest ones:" }))] : [];
    found.replaceChildren(...unknown, ...labels.flatMap(([label, value]) => labelOf(label, value, labels.length === 1)));
  };
  last = last.then(async () => {
    if (!card.isConnected) return;
    await request("explain" + location.search, { method: "POST", body: file }, show);
    if (!card.querySelector("img") && $("error").textContent) {
      state.textContent = $("error").textContent;
    }
  });
}

function code(title, text) {
  return [element("h3", { textContent: title }),
    element("div", { className: "code" }, element("pre", { tabIndex: 0 }, element("code", { textContent: text })), copyButton(() => text))];
}

function about(model) {
  $("name").textContent = "Classify images with " + model.name;
  document.title = model.name;
  const facts = { name: model.name, step: model.step, ...model.facts };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) =>
    [element("dt", { textContent: key }), element("dd", { textContent: value })]));
  $("classes").replaceChildren(...Object.entries(model.labels).flatMap(([label, names]) => [
    element("h3", {}, label + (names.length ? ": " + names.length + " classes" : ": a number")),
    element("ul", { className: "classes" }, ...names.slice(0, 200).map(name => element("li", {}, element("bdi", { textContent: name }))),
      ...(names.length > 200 ? [element("li", { textContent: "…" })] : []))]));
  const others = model.models.filter(name => name !== model.name);
  $("models").hidden = !others.length;
  $("models").replaceChildren("Other models of this server: ", ...others.flatMap((name, i) =>
    [i ? ", " : "", element("a", { href: "?model=" + encodeURIComponent(name), textContent: name })]));
  const address = new URL(model.predict.slice(1), location.href).href;
  const header = token ? " -H \"Authorization: Bearer $TFIC_TOKEN\"" : "";
  const headers = token ? ", headers={\"Authorization\": f\"Bearer {os.environ['TFIC_TOKEN']}\"}" : "";
  $("no-request").hidden = true;
  $("code").replaceChildren(
    ...code("curl", `curl${header} -d "{\\"instances\\": [{\\"b64\\": \\"$(base64 -w0 cat.jpg)\\"}]}" \\\n  ${address}`),
    ...code("Python", `import base64, ${token ? "os, " : ""}requests

paths = ["cat.jpg"]
images = [{"b64": base64.b64encode(open(path, "rb").read()).decode()} for path in paths]
answer = requests.post(
    "${address}",
    json={"instances": images}${headers},
)
for prediction in answer.json()["predictions"]:
    print(prediction)`));
}

$("file").addEventListener("change", event => {
  [...event.target.files].forEach(classify);
  event.target.value = "";
});
$("show").addEventListener("change", event => document.body.classList.toggle("without-heat", !event.target.checked));
$("remove").addEventListener("click", () => { $("list").replaceChildren(); $("results").hidden = true; $("file").focus(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") [...event.dataTransfer.files].forEach(classify);
  });
}
request("about" + location.search, {}, about);
