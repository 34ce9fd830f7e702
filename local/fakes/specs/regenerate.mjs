// Writes github.json and adf.json anew from the packages that ../package.json pins:
//
//   cd local/fakes && npm install --ignore-scripts --no-package-lock && npm run specs && rm -r node_modules
//
// GitHub's description is pruned to the paths that the adapter uses, with what these refer to; examples and prose go,
// since they are four fifths of it and no verdict depends on them. Atlassian's schema is only written without its blanks.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "..", "node_modules");
const read = (...path) => JSON.parse(readFileSync(join(modules, ...path), "utf8"));
const write = (name, value) => writeFileSync(join(here, name), JSON.stringify(value) + "\n");

const USED = {
  "/repos/{owner}/{repo}/issues": ["get", "post"],
  "/repos/{owner}/{repo}/issues/{issue_number}": ["get", "patch"],
  "/repos/{owner}/{repo}/issues/{issue_number}/comments": ["post"],
};
const DROPPED = new Set(["description", "example", "examples", "externalDocs", "summary", "tags"]);

function pruned(value, named = false) {
  if (Array.isArray(value)) return value.map((one) => pruned(one));
  if (value === null || typeof value !== "object") return value;
  const kept = {};
  for (const [name, inner] of Object.entries(value)) {
    if (!named && (DROPPED.has(name) || name.startsWith("x-"))) continue;
    kept[name] = pruned(inner, !named && (name === "properties" || name === "headers"));
  }
  // A response must say something of itself (OpenAPI 3.0.3).
  if (!named && "content" in kept && !("in" in kept) && !("required" in kept)) kept.description = "";
  return kept;
}

function references(value, found) {
  if (value === null || typeof value !== "object") return;
  if (typeof value.$ref === "string") found.add(value.$ref);
  for (const inner of Object.values(value)) references(inner, found);
}

const whole = read("@octokit", "openapi", "generated", "api.github.com.json");
const spec = { openapi: whole.openapi, info: { title: whole.info.title, version: whole.info.version, license: whole.info.license }, servers: whole.servers.map(({ url }) => ({ url })), paths: {}, components: {} };
for (const [path, methods] of Object.entries(USED)) {
  spec.paths[path] = Object.fromEntries(methods.map((method) => [method, pruned(whole.paths[path][method])]));
}
for (let before = -1, found = new Set(); before !== found.size; ) {
  before = found.size;
  references(spec, found);
  for (const reference of found) {
    const [, , room, name] = reference.split("/");
    spec.components[room] ??= {};
    spec.components[room][name] ??= pruned(whole.components[room][name]);
    if (room === "responses") spec.components[room][name].description = "";
  }
}
for (const path of Object.values(spec.paths)) {
  for (const operation of Object.values(path)) {
    for (const response of Object.values(operation.responses)) if (!response.$ref) response.description = "";
  }
}
write("github.json", spec);
copyFileSync(join(modules, "@octokit", "openapi", "LICENSE"), join(here, "github.LICENSE"));

write("adf.json", read("@atlaskit", "adf-schema", "dist", "json-schema", "v1", "full.json"));
copyFileSync(join(modules, "@atlaskit", "adf-schema", "LICENSE"), join(here, "adf.LICENSE"));
