// Builds the page into dist/, which is committed and compiled into the binary.
//
//   node build.mjs           builds dist/
//   node build.mjs --check   builds into a temporary directory, and fails where dist/ differs by a byte
//   node build.mjs --test    bundles and runs the unit tests
//
// The same sources and lock file always give the same bytes: names are hashes of contents, and nothing of the machine or
// the time gets in.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");

/** What browsers of the last years understand; the minifier may use no newer syntax. */
const TARGET = ["chrome100", "firefox100", "safari15.4"];

/** Packages whose code is in the bundle; their licences go with it. */
const BUNDLED = ["preact", "@preact/signals", "@preact/signals-core", "uplot"];

async function bundle() {
  const result = await build({
    absWorkingDir: here,
    entryPoints: { app: "src/main.tsx" },
    bundle: true,
    minify: true,
    format: "iife",
    target: TARGET,
    charset: "utf8",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    outdir: "out",
    write: false,
    logLevel: "warning",
  });
  return Object.fromEntries(result.outputFiles.map((file) => [file.path.endsWith(".css") ? "css" : "js", file.contents]));
}

function hashed(name, extension, bytes) {
  return `${name}-${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}.${extension}`;
}

function licences() {
  const texts = BUNDLED.map((name) => {
    const dir = join(here, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
    const file = readdirSync(dir).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(dir, file), "utf8").trim()}\n`;
  });
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}

async function write(directory) {
  const { js, css } = await bundle();
  const icon = readFileSync(join(here, "src/icon.svg"));
  const names = { js: hashed("app", "js", js), css: hashed("app", "css", css), icon: hashed("icon", "svg", icon) };
  const index = readFileSync(join(here, "src/index.html"), "utf8").replace(/\{\{(\w+)\}\}/g, (_, key) => `/assets/${names[key]}`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(directory, "assets"), { recursive: true });
  writeFileSync(join(directory, "index.html"), index);
  writeFileSync(join(directory, "assets", names.js), js);
  writeFileSync(join(directory, "assets", names.css), css);
  writeFileSync(join(directory, "assets", names.icon), icon);
  writeFileSync(join(directory, "assets", "licenses.txt"), licences());
}

/** Relative path → bytes of every file below a directory. */
function contents(directory) {
  let entries;
  try {
    entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  } catch (error) {
    if (error.code === "ENOENT") return new Map();
    throw error;
  }
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  return new Map(files.map((path) => [relative(directory, path), readFileSync(path)]));
}

async function check() {
  const temporary = mkdtempSync(join(tmpdir(), "peakdesk-page-"));
  try {
    await write(join(temporary, "dist"));
    const [built, committed] = [contents(join(temporary, "dist")), contents(dist)];
    const paths = new Set([...built.keys(), ...committed.keys()]);
    const different = [...paths].filter((path) => !(built.get(path) && committed.get(path)?.equals(built.get(path)))).sort();
    if (different.length > 0) {
      console.error(`dist is not what the sources give, run "npm run build": ${different.join(", ")}`);
      process.exitCode = 1;
    } else {
      console.log(`dist is what the sources give: ${built.size} files`);
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

async function test() {
  const temporary = mkdtempSync(join(tmpdir(), "peakdesk-page-test-"));
  try {
    const entryPoints = readdirSync(join(here, "test")).filter((name) => name.endsWith(".test.ts"));
    await build({
      absWorkingDir: here,
      entryPoints: entryPoints.map((name) => `test/${name}`),
      bundle: true,
      platform: "node",
      format: "esm",
      outExtension: { ".js": ".mjs" },
      outdir: temporary,
      sourcemap: "inline",
      logLevel: "warning",
    });
    const files = readdirSync(temporary).map((name) => join(temporary, name));
    const run = spawnSync(process.execPath, ["--test", "--enable-source-maps", ...files], { stdio: "inherit" });
    process.exitCode = run.status ?? 1;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

const mode = process.argv[2];
if (mode === "--check") await check();
else if (mode === "--test") await test();
else await write(dist);
