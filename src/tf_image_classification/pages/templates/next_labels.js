/* Classes that a person types below images, kept by the browser, and the CSV that they give. */
const { header, paths, others } = JSON.parse($("table").textContent);
const storageKey = "tfic label-next " + location.pathname + " " + paths.length + " " + paths[0];
const inputs = [];

/* Without storage, e.g. in a private window, labels last as long as the page. */
const stored = () => { try { return JSON.parse(localStorage.getItem(storageKey) ?? "{}"); } catch { return {}; } };
const store = () => {
  const values = Object.fromEntries(inputs.map((input, row) => [paths[row], input.value]).filter(([, value]) => value));
  try { localStorage.setItem(storageKey, JSON.stringify(values)); } catch { }
};

function update() {
  const count = inputs.filter(input => input.value.trim()).length;
  $("marked").textContent = count ? "Labelled: " + count + " of " + inputs.length + "." : "No image is labelled yet.";
  $("clear").disabled = !count;
  $("download").disabled = !count;
  document.querySelector(".marked").classList.toggle("some", count);
}

const before = stored();
document.querySelectorAll("figure[data-row]").forEach((figure, row) => {
  const input = element("input", { type: "text", placeholder: header[1], value: before[paths[row]] ?? "", ariaLabel: header[1] + " of image " + (row + 1) });
  input.setAttribute("list", "classes");
  input.addEventListener("input", () => { store(); update(); });
  figure.querySelector("figcaption").append(element("div", { className: "marks" }, input));
  inputs.push(input);
});
$("clear").addEventListener("click", () => { for (const input of inputs) input.value = ""; store(); update(); });
$("download").addEventListener("click", () => {
  const rows = paths.map((path, row) => [path, inputs[row].value.trim(), ...others]).filter(([, label]) => label);
  saveCsv("next.csv", [header, ...rows]);
});
update();
