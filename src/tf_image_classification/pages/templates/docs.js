/* The description of the API as a page. */
const schemaOf = content => Object.entries(content ?? {}).map(([type, { schema }]) =>
  element("pre", { tabIndex: 0 }, element("code", { textContent: type + (schema && Object.keys(schema).length ? "\n" + JSON.stringify(schema, null, 2) : "") })));

function operation(method, path, found) {
  const body = found.requestBody ? [element("h3", { textContent: "Body" }), ...schemaOf(found.requestBody.content)] : [];
  const responses = Object.entries(found.responses).flatMap(([status, response]) => [
    element("h3", { textContent: status + ": " + response.description }), ...schemaOf(response.content)]);
  return element("details", { className: "operation" },
    element("summary", {}, element("code", { textContent: method.toUpperCase() + " " + path }), " " + (found.description ?? found.summary ?? "")),
    ...(found.security?.length ? [element("p", { textContent: "Needs the header Authorization: Bearer TOKEN." })] : []),
    ...body, ...responses);
}

request("openapi.json", {}, description => {
  $("operations").replaceChildren(...Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, found]) => operation(method, path, found))));
});
