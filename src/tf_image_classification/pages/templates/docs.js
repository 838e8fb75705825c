/* The description of the API as a page. */
const block = text => element("pre", { tabIndex: 0 }, element("code", { textContent: text }));

/* Values of the form that a JSON schema describes: one for each of its alternatives. */
function examplesOf(schema) {
  if (schema.const ?? schema.enum) return [schema.const ?? schema.enum[0]];
  if (schema.oneOf) return schema.oneOf.flatMap(examplesOf);
  if (schema.type === "array") return examplesOf(schema.items ?? {}).map(item => [item]);
  if (schema.type !== "object") return [schema.type === "string" ? "…" : schema.type ?? "…"];
  const named = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name) ?? true);
  if (schema.additionalProperties && !named.length) named.push(["…", schema.additionalProperties]);
  return named.reduce((found, [name, one]) =>
    found.flatMap(example => examplesOf(one).map(value => ({ ...example, [name]: value }))), [{}]);
}

const contents = content => Object.entries(content ?? {}).filter(([, { schema }]) => Object.keys(schema ?? {}).length);

function operation(method, path, found) {
  const schemas = contents(found.requestBody?.content);
  const body = schemas.flatMap(([type, { schema }]) => [
    element("h3", { textContent: "Body: " + type }),
    block(examplesOf(schema).map(example => JSON.stringify(example)).join("\nor\n"))]);
  const responses = Object.entries(found.responses).flatMap(([status, response]) => [
    element("dt", { textContent: status }),
    element("dd", {}, response.description, ...contents(response.content).flatMap(([, { schema }]) =>
      examplesOf(schema).map(one => element("div", {}, element("code", { textContent: JSON.stringify(one) })))))]);
  schemas.push(...Object.entries(found.responses).filter(([status]) => status < 300).flatMap(([, one]) => contents(one.content)));
  return element("details", { className: "operation" },
    element("summary", {}, element("span", { className: "method " + method, textContent: method.toUpperCase() }),
      element("code", { textContent: path }), " " + (found.description ?? found.summary ?? "")),
    ...(found.security?.length ? [element("p", { textContent: "Needs the header Authorization: Bearer TOKEN." })] : []),
    ...body,
    element("h3", { textContent: "Responses" }),
    element("dl", {}, ...responses),
    ...(schemas.length ? [element("details", {}, element("summary", { textContent: "JSON schemas" }),
      ...schemas.map(([, { schema }]) => block(JSON.stringify(schema, null, 2))))] : []));
}

request("openapi.json", {}, description => {
  $("operations").replaceChildren(...Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, found]) => operation(method, path, found))));
});
