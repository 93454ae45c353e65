// The interface as a page: openapi.json in, headings and lists out. All of it is set as text, never as markup.

import { authorization } from "./service.js";
import { serverError } from "./words.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const LIMITS = {
  minimum: (value) => `at least ${value}`,
  exclusiveMinimum: (value) => `more than ${value}`,
  maximum: (value) => `at most ${value}`,
  exclusiveMaximum: (value) => `less than ${value}`,
  minItems: (value) => `at least ${value}`,
  maxItems: (value) => `at most ${value}`,
  minLength: (value) => `at least ${value} characters`,
  maxLength: (value) => `at most ${value} characters`,
  pattern: (value) => `like ${value}`,
  default: (value) => `otherwise ${JSON.stringify(value)}`,
};

const element = (id) => document.getElementById(id);
const schemaId = (name) => `schema-${name}`;

function build(tag, attributes, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return node;
}

const soft = (text) => build("span", { className: "soft" }, text);

// Between every two of `lists`, a word.
function joined(lists, word) {
  return lists.flatMap((list, index) => (index === 0 ? list : [word, ...list]));
}

/** What kind of value a schema takes: text, and links to the named ones. */
function kind(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1);
    return [build("a", { href: `#${schemaId(name)}` }, name)];
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return joined(choices.map(kind), " or ");
  if (schema.allOf) return joined(schema.allOf.map(kind), " and ");
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...kind(schema.items ?? {})];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["name to ", ...kind(schema.additionalProperties)];
  }
  const form = schema.format ?? schema.contentEncoding;
  const type = [schema.type ?? "anything"].flat().join(" or ");
  return [form === undefined ? type : `${type} (${form})`];
}

function limitsOf(schema) {
  return Object.keys(LIMITS)
    .filter((key) => key in schema)
    .map((key) => LIMITS[key](schema[key]));
}

const list = (rows) => build("dl", { className: "fields" }, rows);

function field(name, schema, { required = false, description = "", note = "" } = {}) {
  const notes = [note, required ? "" : "may be left out", ...limitsOf(schema)].filter(Boolean);
  const inner = schema.type === "array" ? (schema.items ?? {}) : schema;
  const text = description || schema.description || "";
  return build(
    "div",
    {},
    build("dt", {}, build("code", {}, name)),
    build(
      "dd",
      {},
      build("div", {}, kind(schema), soft(notes.map((each) => `, ${each}`).join(""))),
      text && build("div", { className: "soft" }, text),
      inner.properties ? fields(inner) : "",
    ),
  );
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {});
  return list(rows.map(([name, inner]) => field(name, inner, { required: required.has(name) })));
}

// Types of a body that have one schema are told in one row.
function body(content) {
  const rows = new Map();
  for (const [type, { schema = {} }] of Object.entries(content)) {
    const key = JSON.stringify(schema);
    rows.set(key, { schema, types: [...(rows.get(key)?.types ?? []), type] });
  }
  return [...rows.values()].map(({ schema, types }) => field(types.join(", "), schema, { required: true }));
}

function response(status, { description = "", content = {} }) {
  const kinds = Object.entries(content).map(([type, { schema = {} }]) => [...kind(schema), soft(` (${type})`)]);
  return build(
    "div",
    {},
    build("dt", {}, build("code", {}, status)),
    build("dd", {}, build("div", {}, description), build("div", {}, joined(kinds, " or "))),
  );
}

function route(path, method, operation, shared) {
  const parameters = [...(shared ?? []), ...(operation.parameters ?? [])];
  const id = `${method}${path}`;
  const title = [build("code", { className: "method" }, method.toUpperCase()), build("code", {}, path)];
  const link = build("a", { href: `#${encodeURIComponent(id)}` }, build("code", {}, `${method.toUpperCase()} ${path}`));
  element("contents").append(build("li", {}, link));
  const told = (heading, rows) => (rows.length > 0 ? [build("h4", {}, heading), list(rows)] : []);
  const given = parameters.map((each) => field(each.name, each.schema ?? {}, { ...each, note: `in the ${each.in}` }));
  return build(
    "section",
    { className: "sheet", id },
    build("h3", {}, title),
    build("p", {}, operation.summary ?? ""),
    build("p", { className: "soft" }, operation.description ?? ""),
    told("Parameters", given),
    told("Body", body(operation.requestBody?.content ?? {})),
    told("Answers", Object.entries(operation.responses ?? {}).map(([status, answer]) => response(status, answer))),
  );
}

function named(name, schema) {
  return build(
    "section",
    { className: "sheet", id: schemaId(name) },
    build("h3", {}, build("code", {}, name)),
    build("p", { className: "soft" }, schema.description ?? ""),
    schema.properties ? fields(schema) : build("p", {}, kind(schema)),
  );
}

async function copy(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers keep the clipboard from pages without TLS.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected: copy with your keyboard";
  }
  setTimeout(() => {
    button.textContent = "Copy";
  }, 3000);
}

function prepareExamples() {
  const here = new URL(".", location.href).href;
  for (const origin of document.querySelectorAll(".origin")) origin.textContent = here;
  for (const example of document.querySelectorAll(".example")) {
    const button = build("button", { type: "button" }, "Copy");
    button.addEventListener("click", () => copy(button, example.querySelector("code")));
    example.append(button);
  }
}

async function show() {
  const answer = await fetch("openapi.json", { headers: authorization() }).catch(() => ({ ok: false, status: 0 }));
  if (!answer.ok) {
    element("status").textContent = serverError({ status: answer.status });
    return;
  }
  const interfaces = await answer.json();
  for (const [path, item] of Object.entries(interfaces.paths ?? {})) {
    for (const method of METHODS.filter((each) => each in item)) {
      element("routes").append(route(path, method, item[method], item.parameters));
    }
  }
  for (const [name, schema] of Object.entries(interfaces.components?.schemas ?? {})) {
    element("schemas").append(named(name, schema));
  }
  // What the address points at was not there when the page was loaded.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

prepareExamples();
show();
