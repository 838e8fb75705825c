/* Requests to the server, with its token where it needs one. */
let token = sessionStorage.getItem("token") || "";
let afterLogin = [];

/* The JSON of an address; calls again once a token that is missing or wrong has been entered. */
async function request(address, options, use) {
  $("error").textContent = "";
  let response, found;
  try {
    response = await fetch(address, { ...options, headers: token ? { Authorization: "Bearer " + token } : {} });
    found = await response.json();
  } catch (error) {
    return fail("The server cannot be reached, or closed the connection: " + error.message);
  }
  if (response.status === 401) {
    afterLogin.push(() => request(address, options, use));
    $("login").hidden = false;
    $("token").focus();
    return token ? fail("The server does not accept this token.") : undefined;
  }
  if (!response.ok) return fail(found.error);
  if (token) sessionStorage.setItem("token", token);
  return use(found);
}

function fail(text) {
  $("error").textContent = text;
}

$("login").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  $("login").hidden = true;
  const waiting = afterLogin;
  afterLogin = [];
  waiting.forEach(call => call());
});

function copyButton(text) {
  const button = element("button", { type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}
