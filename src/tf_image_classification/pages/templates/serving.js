let token = sessionStorage.getItem("token") || "", waiting = null;

async function classify(file) {
  $("error").textContent = "";
  const headers = token ? { Authorization: "Bearer " + token } : {};
  let response, found;
  try {
    response = await fetch("explain", { method: "POST", body: file, headers });
    found = await response.json();
  } catch (error) {
    return fail("The server cannot be reached, or closed the connection: " + error.message);
  }
  if (response.status === 401) {
    waiting = file;
    $("login").hidden = false;
    $("token").focus();
    return token ? fail("The server does not accept this token.") : undefined;
  }
  if (!response.ok) return fail(found.error);
  sessionStorage.setItem("token", token);
  show(found);
}

function fail(text) {
  $("error").textContent = text;
  $("result").hidden = true;
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function show(found) {
  $("result").hidden = false;
  $("seen").src = found.seen;
  $("labels").replaceChildren();
  for (const [name, label] of Object.entries(found.labels)) {
    const table = element("table", { className: "top" });
    for (const one of label.top) {
      const percent = (100 * one.probability).toFixed(1);
      const bar = element("div", { className: "bar" });
      bar.style.width = percent + "%";
      table.append(element("tr", {},
        element("th", { scope: "row" }, element("bdi", { textContent: one.name })),
        element("td", { className: "bars" }, bar),
        element("td", { className: "number", textContent: percent + " %" })));
    }
    $("labels").append(element("h2", { textContent: name + ": " + label.name }), table);
    if (label.set) {
      const percent = (100 * label.coverage).toFixed(0) + " % prediction set: ";
      $("labels").append(element("p", { textContent: percent + label.set.join(", ") }));
    }
    $("switch").hidden = !label.heat;
    if (label.heat) $("heat").src = label.heat;
    $("heat").hidden = !label.heat || !$("show").checked;
  }
}

$("login").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  $("login").hidden = true;
  classify(waiting);
});
$("file").addEventListener("change", event => {
  if (event.target.files.length) classify(event.target.files[0]);
});
$("show").addEventListener("change", event => { $("heat").hidden = !event.target.checked; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
  });
}
