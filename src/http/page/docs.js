// Shows openapi.json. All texts are put in as texts, never as HTML.
"use strict";

let api;

const METHODS = ["get", "post", "put", "patch", "delete"];

// An element with children. A child is a node or a text.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

// A text in which `code` is marked.
function prose(text = "") {
  return text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

// What a reference stands for. Members beside the reference win.
function resolve(object) {
  if (!object?.$ref) return object ?? {};
  const target = object.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
  return { ...resolve(target), ...object, $ref: undefined };
}

function typeOf(schema) {
  const known = resolve(schema);
  if ("const" in known) return JSON.stringify(known.const);
  if (known.enum) return known.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (known.anyOf) return known.anyOf.map(typeOf).join(" | ");
  if (known.type === "array") return `array of ${typeOf(known.items)}`;
  const type = [known.type ?? "anything"].flat().join(" | ");
  const range = [known.minimum, known.maximum].map((end) => end ?? "");
  return range.some((end) => end !== "") ? `${type} ${range.join("..")}` : type;
}

// The members of an object, and of objects in it.
function members(schema, depth = 0) {
  const known = resolve(schema);
  if (known.type === "array") return members(known.items, depth);
  if (!known.properties || depth > 4) return undefined;
  const list = make("dl", { class: "members" });
  for (const [name, member] of Object.entries(known.properties)) {
    const optional = known.required?.includes(name) ? "" : "?";
    list.append(
      make("dt", {}, make("code", {}, name + optional), " ", typeOf(member)),
      make("dd", {}, ...prose(resolve(member).description), members(member, depth + 1)),
    );
  }
  return list;
}

function content(of) {
  return Object.entries(of.content ?? {}).map(([media, { schema, example }]) =>
    make("div", {},
      make("p", {}, make("code", {}, media)),
      members(schema),
      example === undefined ? undefined : make("pre", {}, JSON.stringify(example, null, 2)),
    ));
}

function parameters(operation) {
  if (!operation.parameters) return undefined;
  const rows = operation.parameters.map(resolve).map((parameter) =>
    make("tr", {},
      make("td", {}, make("code", {}, parameter.name)),
      make("td", {}, parameter.in),
      make("td", {}, typeOf(parameter.schema)),
      make("td", {}, ...prose(parameter.description)),
    ));
  const names = ["parameter", "in", "type", ""].map((name) => make("th", { scope: "col" }, name));
  return make("div", {}, make("h4", {}, "Parameters"),
    make("table", {}, make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...rows)));
}

function show(path, method, operation) {
  const body = operation.requestBody;
  const answers = Object.entries(operation.responses).map(([status, response]) => {
    const known = resolve(response);
    return make("details", {},
      make("summary", {}, make("strong", {}, status), " ", ...prose(known.description)), ...content(known));
  });
  return make("details", { id: operation.operationId },
    make("summary", {},
      make("span", { class: "method" }, method.toUpperCase()), make("span", { class: "path" }, path), operation.summary),
    operation.description && make("p", {}, ...prose(operation.description)),
    parameters(operation),
    body && make("div", {}, make("h4", {}, body.required ? "Body" : "Body, if any"), ...content(body)),
    make("h4", {}, "Answers"),
    ...answers,
  );
}

function page() {
  const parts = [make("h1", {}, `${api.info.title} ${api.info.version}`), make("p", {}, ...prose(api.info.description)),
    make("p", {}, "As JSON: ", make("a", { href: "openapi.json" }, "openapi.json"))];
  for (const tag of api.tags) {
    parts.push(make("h2", {}, tag.name), make("p", {}, ...prose(tag.description)));
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        if (operations[method]?.tags.includes(tag.name)) parts.push(show(path, method, operations[method]));
      }
    }
  }
  document.querySelector("main").replaceChildren(...parts);
}

fetch("openapi.json")
  .then((answer) => answer.json())
  .then((json) => {
    api = json;
    page();
  })
  .catch((error) => {
    document.getElementById("state").append(` failed: ${error.message}`);
  });
